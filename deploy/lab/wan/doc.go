// Package wan is a wide-area network in user space, for kernels that cannot
// delay packets (no netem): it reads IPv4 packets of one site, and hands them to
// the site that has their destination when a line between the two would.
//
// It guarantees, for each direction of each pair of sites by itself, that
// packets arrive no earlier than its delay after they were sent and in the order
// in which they were sent, that they leave no faster than its bandwidth, and
// that none passes while the direction is cut. What was under way when a line is
// cut is lost with it. Nothing is ever duplicated or changed.
//
// Lines change while packets flow. Text commands (see [Parse]) do it, by the
// scenarios and over a Unix socket alike.
package wan
