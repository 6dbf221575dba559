// Package netns runs programs in Linux network namespaces of their own, each
// with one TUN device that leads to everybody else.
//
// It guarantees that nothing outlives the program that made it, also when that
// is killed: [Enclose] puts the program into namespaces of processes, mounts
// and networks of its own, which the kernel takes down with everything in them
// once their first process is gone. Network namespaces have no names, so that
// there is nothing to be cleaned up.
//
// Addresses are from 127.0.0.0/8, of which each namespace has only its own: the
// others are reached through the TUN device (route_localnet). So the listeners
// that Homing opens on loopback only are there, and no packet can leave the
// machine.
//
// Root is needed; see [Possible].
package netns
