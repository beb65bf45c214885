// Package tasktest has an agent of compute jobs for tests, and the suite that every [task.Agent] passes.
//
// [New] makes an [Agent] that runs tasks by a Go function, in memory, and can be told to fail: [Agent.Restart], [Agent.Cut], [Agent.Refuse]. [Shell] is such a function,
// for programs that are one plain command. [TestAgent] proves an implementation.
//
// It uses the standard library and the nouns of jobs alone.
//
// Stability: experimental.
package tasktest
