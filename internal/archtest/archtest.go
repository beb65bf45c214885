// Package archtest holds the import table of the module. It has tests only; see archtest_test.go.
package archtest
