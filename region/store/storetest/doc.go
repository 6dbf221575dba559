// Package storetest is the contract of region/store as a suite that every
// engine runs, and a naive twin in memory to compare engines with.
//
// The suite holds an engine to what package store guarantees; what only one
// engine can show (a crash, a failed sync, a full disk) is tested beside it.
package storetest
