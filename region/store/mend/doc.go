// Package mend makes a region's replica of another one what it has to be, by
// comparing it row by row with a part of the origin's store (package dump).
//
// It guarantees that afterwards the replica of the part's homes equals the origin
// as of one position of its journal, which is then the replica's, so that replay
// goes on behind it; or, when it returns an error, that the position stands where
// it stood, so that mending is begun again. Rows that are equal are not written.
//
// A careful mending ([Options.Careful]) is what a region does by itself, such as
// when it becomes a home's backup: it adds what is missing and what is older, and
// leaves what the origin lacks or has older, because it may be the only copy of
// something that was acknowledged. An operator's mending leaves nothing.
package mend
