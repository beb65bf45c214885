package tools

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// operations of maggr, in the order in which -l lists them.
var operations = []string{"key", "nop", "count", "max", "mean", "min", "range", "sum", "ovariance", "variance", "stddev"}

// parseOperations reads a list of operations for a column.
func parseOperations(list string) ([]string, error) {
	var ops []string
	for op := range strings.SplitSeq(list, ",") {
		if !slices.Contains(operations, op) {
			return nil, fmt.Errorf("unsupported operation: %s", op)
		}
		if !slices.Contains(ops, op) {
			ops = append(ops, op)
		}
	}
	for _, alone := range []string{"key", "nop"} {
		if len(ops) > 1 && slices.Contains(ops, alone) {
			return nil, fmt.Errorf("no other operations can be specified for a column marked %s", alone)
		}
	}
	return ops, nil
}

// An aggregate is what is known of one column of one key.
type aggregate struct {
	key           string
	n             float64
	sum, min, max float64
	mean, m2      float64   // Welford's
	values        []float64 // kept for variance and stddev, which go through them twice
}

// keeps reports whether an operation needs all the values.
func keeps(ops []string) bool {
	return slices.Contains(ops, "variance") || slices.Contains(ops, "stddev")
}

func (a *aggregate) add(v float64, keep bool) {
	if a.n == 0 {
		a.min, a.max = v, v
	}
	a.n++
	a.sum += v
	a.min, a.max = math.Min(a.min, v), math.Max(a.max, v)
	delta := v - a.mean
	a.mean += delta / a.n
	a.m2 += delta * (v - a.mean)
	if keep {
		a.values = append(a.values, v)
	}
}

// result returns what an operation gives.
func (a *aggregate) result(op string) string {
	switch op {
	case "key":
		return a.key
	case "count":
		return jsNumber(a.n)
	case "max":
		return jsNumber(a.max)
	case "mean":
		return jsNumber(a.sum / a.n)
	case "min":
		return jsNumber(a.min)
	case "range":
		return jsNumber(a.max - a.min)
	case "sum":
		return jsNumber(a.sum)
	case "ovariance":
		return jsNumber(a.m2 / (a.n - 1))
	case "variance":
		return jsNumber(a.variance())
	case "stddev":
		return jsNumber(math.Sqrt(a.variance()))
	}
	return ""
}

func (a *aggregate) variance() float64 {
	mean, sum := a.sum/a.n, 0.0
	for _, v := range a.values {
		sum += (v - mean) * (v - mean)
	}
	return sum / (a.n - 1)
}
