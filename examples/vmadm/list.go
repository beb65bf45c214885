package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/mobulacloud/mobula/zones/host"
)

// field gives a column's value; type, ram and state have names of their own in a list.
func field(m map[string]any, name string) string {
	switch name {
	case "ram", "memory":
		if v := host.Text(m["ram"]); v != "" {
			return v
		}
		return host.Text(m["max_physical_memory"])
	}
	return host.Text(host.Lookup(m, name))
}

func (c *command) rows(ctx context.Context, filter []string) ([]map[string]any, error) {
	f, err := host.ParseFilter(filter...)
	if err != nil {
		return nil, usageError(err.Error())
	}
	var out []map[string]any
	err = c.with(ctx, func(s *server) error {
		l, err := s.List(ctx, f)
		if err != nil {
			return err
		}
		for _, z := range l {
			m, err := host.Properties(z)
			if err != nil {
				return err
			}
			out = append(out, m)
		}
		return nil
	})
	return out, err
}

func (c *command) list(ctx context.Context, in call) error {
	rows, err := c.rows(ctx, in.args)
	if err != nil {
		return err
	}
	sortRows(rows, strings.Split(in.value('s', "ram,uuid"), ","))
	names := strings.Split(in.value('o', "uuid,type,ram,state,alias"), ",")
	if in.has('p') {
		for _, m := range rows {
			for i, n := range names {
				if i > 0 {
					fmt.Fprint(c.stdout, ":")
				}
				// A colon in a value would be a column.
				fmt.Fprint(c.stdout, strings.ReplaceAll(field(m, n), ":", "\\:"))
			}
			fmt.Fprintln(c.stdout)
		}
		return nil
	}
	table := make([][]string, 0, len(rows)+1)
	if !in.has('H') {
		var head []string
		for _, n := range names {
			head = append(head, strings.ToUpper(n))
		}
		table = append(table, head)
	}
	for _, m := range rows {
		var row []string
		for _, n := range names {
			v := field(m, n)
			if v == "" {
				v = "-"
			}
			row = append(row, v)
		}
		table = append(table, row)
	}
	printTable(c, table)
	return nil
}

func printTable(c *command, table [][]string) {
	if len(table) == 0 {
		return
	}
	width := make([]int, len(table[0]))
	for _, row := range table {
		for i, v := range row {
			width[i] = max(width[i], len(v))
		}
	}
	for _, row := range table {
		var b strings.Builder
		for i, v := range row {
			fmt.Fprintf(&b, "%-*s  ", width[i], v)
		}
		fmt.Fprintln(c.stdout, strings.TrimRight(b.String(), " "))
	}
}

// sortRows sorts by fields, "-field" downwards; numbers as numbers.
func sortRows(rows []map[string]any, by []string) {
	slices.SortStableFunc(rows, func(a, b map[string]any) int {
		for _, f := range by {
			name, down := strings.CutPrefix(f, "-")
			x, y := host.Lookup(a, name), host.Lookup(b, name)
			n, okX := x.(float64)
			m, okY := y.(float64)
			d := 0
			if okX && okY {
				d = cmp.Compare(n, m)
			} else {
				d = cmp.Compare(field(a, name), field(b, name))
			}
			if down {
				d = -d
			}
			if d != 0 {
				return d
			}
		}
		return 0
	})
}

func (c *command) lookup(ctx context.Context, in call) error {
	rows, err := c.rows(ctx, in.args)
	if err != nil {
		return err
	}
	if in.has('1') && len(rows) != 1 {
		return fmt.Errorf("lookup: requested exactly one zone, %d match", len(rows))
	}
	sortRows(rows, []string{"uuid"})
	columns := in.value('o', "")
	if columns != "" {
		for i, m := range rows {
			few := map[string]any{}
			for n := range strings.SplitSeq(columns, ",") {
				if v := host.Lookup(m, n); v != nil {
					few[n] = v
				}
			}
			rows[i] = few
		}
	}
	if in.has('j') || columns != "" {
		if rows == nil {
			rows = []map[string]any{}
		}
		return c.json(rows)
	}
	for _, m := range rows {
		fmt.Fprintln(c.stdout, m["uuid"])
	}
	return nil
}
