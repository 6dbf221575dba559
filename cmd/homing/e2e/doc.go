// Package e2e holds the tests that run the real program from outside: the
// binary as a user builds it, real sockets, real kills. It has no code of its
// own to import.
package e2e
