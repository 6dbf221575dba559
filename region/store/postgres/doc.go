// Package postgres is the engine of region/store on PostgreSQL: a region's
// partitions spread over one or several databases, each with as many
// synchronous standbys as its operator gives it.
//
// It guarantees that a commit is acknowledged only after PostgreSQL has
// acknowledged the COMMIT that holds it, which with synchronous_standby_names
// means that the quorum has it on disk; that it is there whole or not at all;
// that a COMMIT of which nobody knows what became of it is settled before
// anything else is written; and that one process at a time commits.
//
// # Group commit
//
// One committer goroutine per database takes every operation that waits, of all
// partitions there, reads the rows they name with one statement, evaluates them
// in order in memory, and writes what they became with one statement of unnest
// arrays in one transaction. What arrives meanwhile is the next group. So the
// rate grows with the callers, and no two transactions ever wait for each other.
//
// # Unknown outcomes
//
// Each group has an ID of its own, which it leaves in the rows of its
// partitions, on the condition that the group before it is there. When the
// connection breaks between COMMIT and its answer, or when a wait for standbys
// was cancelled, the committer connects again, waits until the quorum has
// everything that is visible, and looks: with the group's ID there it
// was committed, with the one before it was not and is sent again. A COMMIT is
// never cancelled from here, because PostgreSQL would report success for what is
// on one disk only; its connection is closed instead.
//
// Meanwhile reads of that database are refused with region.Unavailable: they
// could see what a failover would take back.
//
// # One committer
//
// The connection that commits holds an advisory lock, so a second process is
// told at once. The process that opens the store leaves a token, which is
// a condition of every group: a process that was cut off while another took over
// is refused when it comes back, and stays so.
//
// # Incarnations
//
// The incarnation grows when the server's timeline is another one than that of
// the last group: it was promoted or restored. A running store that finds
// less than it had acknowledged becomes read-only; opened again, it goes on as a
// new incarnation from what is there.
//
// # Layout
//
// See the files in migrations, which Open applies. All tables are found by
// search_path, so a database can hold several stores in schemas.
package postgres
