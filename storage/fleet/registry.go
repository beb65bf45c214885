package fleet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/mobulacloud/mobula/storage"
	"github.com/mobulacloud/mobula/storage/metastore"
)

// ErrRemoved refuses a report of a node that was removed for good. Its process should stop.
var ErrRemoved = errors.New("fleet: node has been removed")

// ErrState refuses a change of state that would lose objects or bring back what is gone.
var ErrState = errors.New("fleet: node is not in a state for that")

// A Registrar takes the reports of nodes. [Registry] is one, [Client] another.
type Registrar interface {
	// Report stores what a node says of itself. [ErrRemoved] is final; [storage.ErrInvalid] means that the report makes no sense; any
	// other error may pass.
	Report(ctx context.Context, r Report) error
}

// A Registry keeps the records of storage nodes in a metastore.
type Registry struct {
	// Damaged, if set before the first report, is told of copies that a node found damaged on its own. It must not block; a repair
	// queue is where it leads ([durable.Repairer.Add] with the id alone).
	Damaged func(node string, ids []storage.ObjectID)

	reports metastore.Table[record]
	members metastore.Table[Member]
}

// NewRegistry defines the buckets, if need be, and returns the registry.
func NewRegistry(ctx context.Context, store metastore.Store) (*Registry, error) {
	for _, b := range buckets {
		if err := store.Define(ctx, b); err != nil && !errors.Is(err, metastore.ErrBucketVersion) {
			return nil, fmt.Errorf("fleet: define bucket %s: %w", b.Name, err)
		}
	}
	return &Registry{
		reports: metastore.NewTable[record](store, ReportBucket),
		members: metastore.NewTable[Member](store, MemberBucket),
	}, nil
}

// Report implements [Registrar]. The time of the report is the Registry's, since nodes' clocks differ.
func (g *Registry) Report(ctx context.Context, r Report) error {
	if err := r.Validate(); err != nil {
		return err
	}
	damaged, err := r.damaged()
	if err != nil {
		return err
	}
	r.Damaged = nil
	put, err := g.reports.PutOp(key(r.Node), newRecord(r, time.Now()), metastore.Condition{})
	if err != nil {
		return err
	}
	for {
		member, err := g.member(ctx, r.Node)
		if err != nil {
			return fmt.Errorf("report of %s: %w", r.Node, err)
		}
		if member.Value.State == Removed {
			return fmt.Errorf("%w: %s", ErrRemoved, r.Node)
		}
		_, err = g.reports.Store().Commit(ctx, metastore.Batch{
			metastore.Check{Bucket: MemberBucket, Key: key(r.Node), If: metastore.EtagIs(member.Etag)}, put})
		if err == nil {
			if len(damaged) > 0 && g.Damaged != nil {
				g.Damaged(r.Node, damaged)
			}
			return nil
		}
		if !errors.Is(err, metastore.ErrConflict) {
			return fmt.Errorf("report of %s: %w", r.Node, err)
		}
	}
}

// member returns the operator's word on a node; without one the etag is "".
func (g *Registry) member(ctx context.Context, node string) (metastore.Item[Member], error) {
	m, err := g.members.Get(ctx, key(node))
	if errors.Is(err, metastore.ErrNotFound) {
		return metastore.Item[Member]{Key: key(node), Value: Member{Node: node, State: Running}}, nil
	}
	return m, err
}

// SetState changes what is wanted of a node, which need not have reported yet. Reason is for people. Any of Running, Draining and Lost may follow any other;
// a removed node stays removed ([ErrState]). It takes effect in every Fleet as its watch brings it, within moments.
func (g *Registry) SetState(ctx context.Context, node string, state State, reason string) error {
	if err := validateNode(node); err != nil {
		return err
	}
	if !slices.Contains([]State{Running, Draining, Lost}, state) || len(reason) > maxText {
		return fmt.Errorf("%w: fleet: state %.40q with a reason of %d bytes", storage.ErrInvalid, state, len(reason))
	}
	return g.change(ctx, node, func(old State) (Member, error) {
		if old == Removed {
			return Member{}, fmt.Errorf("%w: %s has been removed", ErrState, node)
		}
		return Member{Node: node, State: state, Reason: reason, Since: time.Now().UTC()}, nil
	})
}

// Remove takes a node out for good: its report is deleted, its id refused from now on, and the copies on it count as lost.
// The node must be Lost ([ErrState]), and the caller must have seen to it that no record names it any more. Removing it again is no error.
func (g *Registry) Remove(ctx context.Context, node, reason string) error {
	if err := validateNode(node); err != nil {
		return err
	}
	return g.change(ctx, node, func(old State) (Member, error) {
		if old != Lost && old != Removed {
			return Member{}, fmt.Errorf("%w: %s is %s; mark it lost and evacuate it first", ErrState, node, old)
		}
		return Member{Node: node, State: Removed, Reason: reason, Since: time.Now().UTC()}, nil
	}, metastore.Delete{Bucket: ReportBucket, Key: key(node)})
}

// change replaces the word on a node, together with other operations.
func (g *Registry) change(ctx context.Context, node string, next func(old State) (Member, error), also ...metastore.Op) error {
	for {
		old, err := g.member(ctx, node)
		if err != nil {
			return fmt.Errorf("state of %s: %w", node, err)
		}
		member, err := next(old.Value.State)
		if err != nil || member.State == old.Value.State && member.Reason == old.Value.Reason {
			return err
		}
		put, err := g.members.PutOp(key(node), member, metastore.EtagIs(old.Etag))
		if err != nil {
			return err
		}
		_, err = g.members.Store().Commit(ctx, append(metastore.Batch{put}, also...))
		if err == nil {
			return nil
		}
		if !errors.Is(err, metastore.ErrConflict) {
			return fmt.Errorf("state of %s: %w", node, err)
		}
	}
}

// A Node is one storage node as the records know it.
type Node struct {
	Report
	Reported time.Time // zero when it has not reported
	Member   Member
}

// Nodes returns all nodes by id, also those that never reported or were removed.
func (g *Registry) Nodes(ctx context.Context) ([]Node, error) {
	byID := map[string]*Node{}
	node := func(id string) *Node {
		if byID[id] == nil {
			byID[id] = &Node{Report: Report{Node: id}, Member: Member{Node: id, State: Running}}
		}
		return byID[id]
	}
	for item, err := range g.reports.Find(ctx, metastore.Query{Partition: metastore.In("")}) {
		if err != nil {
			return nil, fmt.Errorf("list storage nodes: %w", err)
		}
		n := node(item.Key.Name)
		n.Report, n.Reported = item.Value.Report, time.UnixMilli(item.Value.Timestamp)
	}
	for item, err := range g.members.Find(ctx, metastore.Query{Partition: metastore.In("")}) {
		if err != nil {
			return nil, fmt.Errorf("list storage nodes: %w", err)
		}
		node(item.Key.Name).Member = item.Value
	}
	nodes := make([]Node, 0, len(byID))
	for _, n := range byID {
		nodes = append(nodes, *n)
	}
	slices.SortFunc(nodes, func(a, b Node) int { return cmp.Compare(a.Node, b.Node) })
	return nodes, nil
}
