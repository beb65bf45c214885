package shard

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/mobulacloud/mobula/storage/metastore"
)

// A Layout tells how the ring is laid out.
type Layout struct {
	VirtualNodes int
	Shards       []ShardLayout // as in the map
	Moves        []MoveStatus
}

// A ShardLayout is a shard's part of the ring.
type ShardLayout struct {
	Name   string
	VNodes []int // ascending
}

// A MoveStatus is a move under way, or left by a process that died.
type MoveStatus struct {
	ID       int
	From, To string
	VNodes   []int
	Phase    string // "copy", "abort" or "clean"
}

// Layout reads the map.
func (s *Store) Layout(ctx context.Context) (Layout, error) {
	if err := s.open(ctx); err != nil {
		return Layout{}, err
	}
	var l Layout
	err := s.changeMap(ctx, func(m *ringMap) error {
		l = Layout{VirtualNodes: len(m.Owners)}
		for _, x := range m.Shards {
			l.Shards = append(l.Shards, ShardLayout{Name: x.Name})
		}
		for v, o := range m.Owners {
			l.Shards[o].VNodes = append(l.Shards[o].VNodes, v)
		}
		for _, x := range m.Moves {
			l.Moves = append(l.Moves, MoveStatus{x.ID, m.Shards[x.From].Name, m.Shards[x.To].Name, x.VNodes, x.Phase})
		}
		return errNoChange
	})
	return l, err
}

// VNode returns the virtual node of a partition.
func (s *Store) VNode(partition string) int {
	if k := s.known.Load(); k != nil {
		return k.ring.vnode(partition)
	}
	return vnode(partition, s.config.VirtualNodes)
}

// Move moves virtual nodes to a shard, while reads and writes go on. Those that are there already stay. It takes a look at every record of the
// shards they come from, so move many at once. If it fails, Resume or Abort it.
func (s *Store) Move(ctx context.Context, to string, vnodes ...int) error {
	for {
		var begun *mapMove
		err := s.changeMap(ctx, func(m *ringMap) error {
			begun = nil
			target := slices.IndexFunc(m.Shards, func(x mapShard) bool { return x.Name == to })
			if target < 0 {
				return fmt.Errorf("%w: no shard %.80q in the map", metastore.ErrInvalid, to)
			}
			next := mapMove{ID: m.NextID, From: -1, To: target, Phase: phaseCopy}
			for _, v := range vnodes {
				if v < 0 || v >= len(m.Owners) {
					return fmt.Errorf("%w: virtual node %d of %d", metastore.ErrInvalid, v, len(m.Owners))
				}
				if o := m.Owners[v]; o != target && (next.From < 0 || next.From == o) && !slices.Contains(next.VNodes, v) {
					next.From, next.VNodes = o, append(next.VNodes, v)
				}
			}
			if len(next.VNodes) == 0 {
				return errNoChange
			}
			for _, x := range m.Moves {
				if slices.ContainsFunc(x.VNodes, func(v int) bool { return slices.Contains(next.VNodes, v) }) {
					return fmt.Errorf("%w: move %d has some of these virtual nodes; resume or abort it", metastore.ErrConflict, x.ID)
				}
			}
			slices.Sort(next.VNodes)
			m.NextID++
			m.Moves = append(m.Moves, next)
			begun = &next
			return nil
		})
		if err != nil || begun == nil {
			return err
		}
		if err := s.carry(ctx, begun.ID); err != nil {
			return err
		}
	}
}

// Rebalance moves as few virtual nodes as give every opened shard an equal share, one more or less.
func (s *Store) Rebalance(ctx context.Context) error {
	l, err := s.Layout(ctx)
	if err != nil {
		return err
	}
	return s.spread(ctx, l, s.shards)
}

// Drain moves all virtual nodes away from a shard, evenly to the others.
func (s *Store) Drain(ctx context.Context, name string) error {
	if name == s.shards[0].Name {
		return fmt.Errorf("%w: the first shard holds the map and cannot be drained", metastore.ErrInvalid)
	}
	l, err := s.Layout(ctx)
	if err != nil {
		return err
	}
	return s.spread(ctx, l, slices.DeleteFunc(slices.Clone(s.shards), func(x Shard) bool { return x.Name == name }))
}

// spread gives these shards equal shares and all others none.
func (s *Store) spread(ctx context.Context, l Layout, shards []Shard) error {
	share, rest := l.VirtualNodes/len(shards), l.VirtualNodes%len(shards)
	var spare []int
	want := map[string]int{}
	for _, x := range shards {
		want[x.Name] = share
	}
	// Those with the most keep the odd ones.
	slices.SortStableFunc(l.Shards, func(a, b ShardLayout) int { return len(b.VNodes) - len(a.VNodes) })
	for _, x := range l.Shards {
		n, takes := want[x.Name]
		if takes && rest > 0 {
			n++
			rest--
			want[x.Name] = n
		}
		if len(x.VNodes) > n {
			spare = append(spare, x.VNodes[n:]...)
		}
	}
	for _, x := range l.Shards {
		if n := want[x.Name] - len(x.VNodes); n > 0 {
			if err := s.Move(ctx, x.Name, spare[:n]...); err != nil {
				return err
			}
			spare = spare[n:]
		}
	}
	return nil
}

// Resume completes the moves that were cut short, the aborted ones included.
func (s *Store) Resume(ctx context.Context) error {
	l, err := s.Layout(ctx)
	if err != nil {
		return err
	}
	for _, m := range l.Moves {
		if err := s.carry(ctx, m.ID); err != nil {
			return err
		}
	}
	return nil
}

// Abort undoes the moves that have not switched yet, and completes the others.
func (s *Store) Abort(ctx context.Context) error {
	err := s.changeMap(ctx, func(m *ringMap) error {
		changed := false
		for i, x := range m.Moves {
			if x.Phase == phaseCopy {
				m.Moves[i].Phase = phaseAbort
				changed = true
			}
		}
		if !changed {
			return errNoChange
		}
		return nil
	})
	if err != nil {
		return err
	}
	return s.Resume(ctx)
}

// A mover carries one move through its steps.
type mover struct {
	*Store
	mapMove
	source, target *side
	mine           map[int]bool    // its virtual nodes
	vnodes         int             // of all
	check          metastore.Check // of the mover's record at the shard that it writes to
}

// A side is a shard as a mover knows it: what stood there before the mover looked whether there is still something to do, and what it has written itself
// since. It writes under the condition that nothing else has been written, so that one who comes late, or was overtaken, fails instead of setting
// fences that another relies on.
type side struct {
	metastore.Mover
	record metastore.Key // of movers
	etag   string        // its etag
	fences map[int]fence
}

func (m *mover) newSide(ctx context.Context, store metastore.Mover, record string) (*side, error) {
	x := &side{Mover: store, record: metastore.Key{Name: record + strconv.Itoa(m.ID)}}
	r, err := store.Get(ctx, bucketFence, x.record)
	if err != nil && !errors.Is(err, metastore.ErrNotFound) {
		return nil, err
	}
	x.etag = r.Etag
	x.fences, err = readFences(ctx, store)
	return x, err
}

// set sets the fences of virtual nodes, and carries out other operations with it.
func (x *side) set(ctx context.Context, vnodes []int, state string, also ...metastore.Op) (metastore.Result, error) {
	b := putFences(vnodes, state)
	for i, v := range vnodes {
		put := b[i].(metastore.Put)
		put.If = metastore.EtagIs(x.fences[v].etag)
		b[i] = put
	}
	result, err := x.Commit(ctx, append(b, also...))
	if errors.Is(err, metastore.ErrConflict) {
		return result, fmt.Errorf("%w: another mover is at work", metastore.ErrConflict)
	}
	if err != nil {
		return result, err
	}
	for i, v := range vnodes {
		x.fences[v] = fence{State: state, etag: result.Etags[i]}
	}
	return result, nil
}

// carry brings a move to its end from whatever step it is at. Each step may be repeated; a mover that was taken over
// from fails at its next write.
func (s *Store) carry(ctx context.Context, id int) error {
	m := &mover{Store: s}
	// The map, then the shards, then the map again: what a mover finds at the shards is from before the move was known to be at its step.
	for looked := false; ; looked = true {
		phase := m.Phase
		source, target, err := m.find(ctx, id)
		if err != nil || source == nil && target == nil {
			return err
		}
		if looked && m.Phase == phase {
			break
		}
		if m.source, err = m.newSide(ctx, source, "out"); err != nil {
			return err
		}
		if m.target, err = m.newSide(ctx, target, "in"); err != nil {
			return err
		}
	}
	m.mine = map[int]bool{}
	for _, v := range m.VNodes {
		m.mine[v] = true
	}
	var err error
	switch m.Phase {
	case phaseAbort:
		err = m.undo(ctx)
	case phaseClean:
		err = m.clean(ctx)
	default:
		err = m.copy(ctx)
	}
	if err != nil {
		return fmt.Errorf("move %d of %d virtual nodes: %w", m.ID, len(m.VNodes), err)
	}
	return nil
}

// find reads a move from the map, and returns its shards; none if the move is no more.
func (m *mover) find(ctx context.Context, id int) (source, target metastore.Mover, err error) {
	found := false
	err = m.changeMap(ctx, func(x *ringMap) error {
		i := slices.IndexFunc(x.Moves, func(y mapMove) bool { return y.ID == id })
		if found = i >= 0; !found {
			return errNoChange
		}
		m.mapMove, m.vnodes = x.Moves[i], len(x.Owners)
		for _, shard := range m.shards {
			mv, ok := shard.Store.(metastore.Mover)
			if shard.Name != x.Shards[m.From].Name && shard.Name != x.Shards[m.To].Name {
				continue
			}
			if !ok {
				return fmt.Errorf("%w: shard %s is no metastore.Mover", metastore.ErrInvalid, shard.Name)
			}
			if shard.Name == x.Shards[m.From].Name {
				source = mv
			} else {
				target = mv
			}
		}
		return errNoChange
	})
	if err != nil || !found {
		return nil, nil, err
	}
	if source == nil || target == nil {
		return nil, nil, fmt.Errorf("%w: a shard of move %d has not been opened", metastore.ErrUnavailable, id)
	}
	return source, target, nil
}

// at is called before each step.
func (m *mover) at(name string) error {
	m.config.Logger.Info("move", "move", m.ID, "vnodes", len(m.VNodes), "step", name)
	if m.step != nil {
		return m.step(name)
	}
	return nil
}

// takeOver makes the mover's record at a shard this mover's, along with setting fences; another's imports there fail from now on.
func (m *mover) takeOver(ctx context.Context, at *side, state string) error {
	result, err := at.set(ctx, m.VNodes, state, metastore.Put{Bucket: bucketFence, Key: at.record, Value: []byte(`{}`), If: metastore.EtagIs(at.etag)})
	if err != nil {
		return err
	}
	at.etag = result.Etags[len(m.VNodes)]
	m.check = metastore.Check{Bucket: bucketFence, Key: at.record, If: metastore.EtagIs(at.etag)}
	return nil
}

// copy is all up to the switch.
func (m *mover) copy(ctx context.Context) error {
	if err := m.at("prepare"); err != nil {
		return err
	}
	if err := m.takeOver(ctx, m.target, stateIncoming); err != nil {
		return err
	}
	if err := m.at("copying"); err != nil {
		return err
	}
	// What is frozen stays so: the mover who froze it may be about to switch, and what was written now would be lost.
	state := stateCopying
	if slices.ContainsFunc(m.VNodes, func(v int) bool { return m.source.fences[v].State == stateFrozen }) {
		state = stateFrozen
	}
	if _, err := m.source.set(ctx, m.VNodes, state); err != nil {
		return err
	}
	// The second pass is the proof of the first: what it still finds different has been written meanwhile.
	for pass := range 2 {
		if err := m.at("pass" + strconv.Itoa(pass+1)); err != nil {
			return err
		}
		if err := m.synchronize(ctx); err != nil {
			return err
		}
	}
	for range 20 {
		if err := m.at("drain"); err != nil {
			return err
		}
		n, err := m.drain(ctx)
		if err != nil {
			return err
		}
		if n < 100 {
			break
		}
	}
	if err := m.at("freeze"); err != nil {
		return err
	}
	if _, err := m.source.set(ctx, m.VNodes, stateFrozen); err != nil {
		return err
	}
	for {
		if err := m.at("last"); err != nil {
			return err
		}
		n, err := m.drain(ctx)
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
	}
	if err := m.at("switch"); err != nil {
		return err
	}
	// Not without the target's leave: a mover that was taken over from must not switch.
	if _, err := m.target.Commit(ctx, metastore.Batch{m.check}); err != nil {
		return err
	}
	err := m.changeMap(ctx, func(x *ringMap) error {
		i := slices.IndexFunc(x.Moves, func(y mapMove) bool { return y.ID == m.ID })
		if i < 0 || x.Moves[i].Phase != phaseCopy {
			return fmt.Errorf("%w: the move was taken over", metastore.ErrConflict)
		}
		x.Moves[i].Phase = phaseClean
		for _, v := range m.VNodes {
			x.Owners[v] = m.To
		}
		return nil
	})
	if err != nil {
		return err
	}
	return m.clean(ctx)
}

// clean is all after the switch.
func (m *mover) clean(ctx context.Context) error {
	if err := m.at("wait"); err != nil {
		return err
	}
	// Until nobody reads by the old map.
	wait := time.NewTimer(m.config.MapTTL)
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := m.at("admit"); err != nil {
		return err
	}
	// Whoever took the target over meanwhile believed that the move had not switched: this ends it, whatever the fences.
	admit := append(metastore.Batch{metastore.Delete{Bucket: bucketFence, Key: m.target.record, If: metastore.Present()}}, putFences(m.VNodes, stateOwned)...)
	if _, err := m.target.Commit(ctx, admit); err != nil && !errors.Is(err, metastore.ErrConflict) {
		return err // a conflict: it has been done before
	}
	if err := m.at("clean"); err != nil {
		return err
	}
	if err := m.takeOver(ctx, m.source, stateMoved); err != nil {
		return err
	}
	if err := m.remove(ctx, m.source); err != nil {
		return err
	}
	if err := m.at("end"); err != nil {
		return err
	}
	return m.finish(ctx, m.source)
}

// undo takes a move back that has not switched.
func (m *mover) undo(ctx context.Context) error {
	if err := m.at("undo"); err != nil {
		return err
	}
	if err := m.takeOver(ctx, m.target, stateMoved); err != nil {
		return err
	}
	if err := m.at("undo-clean"); err != nil {
		return err
	}
	if err := m.remove(ctx, m.target); err != nil {
		return err
	}
	if err := m.at("undo-admit"); err != nil {
		return err
	}
	if _, err := m.source.set(ctx, m.VNodes, stateOwned); err != nil {
		return err
	}
	if err := m.forget(ctx); err != nil {
		return err
	}
	return m.finish(ctx, m.target)
}

// finish removes the mover's record at a shard and the move from the map.
func (m *mover) finish(ctx context.Context, store metastore.Store) error {
	err := m.changeMap(ctx, func(x *ringMap) error {
		n := len(x.Moves)
		x.Moves = slices.DeleteFunc(x.Moves, func(y mapMove) bool { return y.ID == m.ID })
		if len(x.Moves) == n {
			return errNoChange
		}
		return nil
	})
	if err != nil {
		return err
	}
	_, err = store.Commit(ctx, metastore.Batch{metastore.Delete{Bucket: bucketFence, Key: m.check.Key, If: m.check.If}})
	if errors.Is(err, metastore.ErrConflict) {
		return nil
	}
	return err
}
