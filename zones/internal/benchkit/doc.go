// Package benchkit measures what testing.B does not: processor time, and how the rounds of a benchmark are spread.
//
// Stability: experimental.
package benchkit
