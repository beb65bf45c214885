// Package sched decides which zone runs which task next: the scheduler of Marlin's agents, without clocks, locks or zones of its own.
//
// A [Scheduler] is told of events ([Scheduler.Add], [Scheduler.Remove], [Scheduler.Ready], [Scheduler.Gone]) with the time at which they happened, and
// [Scheduler.Plan] says what is to be done. It is a pure state machine: nothing in it waits or runs by itself, [Scheduler.Wake] says when to ask again. It is not safe for
// use by several goroutines.
//
// # Rules
//
// A group is a job's phase. A stream is a zone that runs tasks of one group, one after another, without a reset. Some zones are a reserve, only for groups that
// have none. A group's share of the others is in proportion to its tasks, at least one zone and never more than it has tasks; where several owners have tasks,
// each owner's part is equal and shares are of that. A new task goes to an idle stream of its group, else a new stream begins for it if the group has none, or if more
// than the reserve is free. A zone that ends a task stays with its group if that has no other; else it goes to whoever waits without a zone, else to a group below
// its share if its own stays at its share without it. A stream without a task idles for a while, unless somebody waits for its zone. A group that holds more
// than its share of a full pool for [Config].HogGrace loses a zone every HogKill, whatever runs there. Memory and disk beyond what every zone has come from limited stocks.
//
// Two rules are not Marlin's, which had a hundred zones and more where we may have eight: a group's only zone is given up after [Config].Turn while others wait without one, and among
// those that wait the owner with the fewest zones comes first, for as long as nobody has waited [Config].Patience.
//
// Stability: experimental.
package sched
