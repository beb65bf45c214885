package main

import (
	"context"
	"time"

	"github.com/mobulacloud/mobula/internal/pki"
	"github.com/mobulacloud/mobula/manta/jobs/task"
)

// agentsInterval is how often the list of storage nodes is compared with the agents that are known. It is short beside the wait for a task's agent.
const agentsInterval = 2 * time.Second

// followAgents keeps the supervisor told of the agents on storage nodes, until ctx ends. Each storage node may have one; the supervisor finds out by asking.
func (h *head) followAgents(ctx context.Context) error {
	known := map[string]string{} // addresses by name
	tick := time.NewTicker(agentsInterval)
	defer tick.Stop()
	for {
		now := map[string]string{}
		for _, n := range h.front.Fleet.Nodes() {
			now[n.Report.Node] = n.Report.Address
		}
		for name, address := range now {
			if known[name] == address {
				continue
			}
			agent, err := task.NewClient(task.ClientConfig{URL: address, TLS: h.credentials.Client(pki.Identity{Role: pki.Storage, Name: name})})
			if err != nil {
				h.log.Warn("storage node has no address for tasks", "node", name, "err", err)
				continue
			}
			h.front.Agents.Set(name, agent)
		}
		for name := range known {
			if _, ok := now[name]; !ok {
				h.front.Agents.Set(name, nil)
			}
		}
		known = now
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}
