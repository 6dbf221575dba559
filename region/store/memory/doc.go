// Package memory is a store in memory, for simulations and tests.
//
// It guarantees what package store does, on a [Disk] that keeps exactly what was
// synced: every operation is put into one log, an acknowledged one is synced,
// and [Disk.Crash] loses all of the log that was not, or all but a beginning of
// it. The steps of a partition are those of the other engines
// (internal/partition); this one only brings their rows.
//
// Readers are shown what is synced, and nothing else. Everything is under one
// lock and nothing is ever written to a file, so that the same calls give the
// same answers.
package memory
