// Package geo says where addresses are and which carrier has them: the facts
// that dns/steer decides by.
//
// # Guarantees
//
//   - The network that comes with an answer has one and the same answer all
//     over, whatever was asked: the world's configured places and all databases
//     together. An answer's ECS scope rests on it.
//   - The world's places (World.Places, the longest prefix wins) go before any
//     database, so that loopback, a lab or an office is where the operator says.
//   - A database that cannot be read does not replace the one in use: the last
//     good one stays, the error is returned, counted and logged.
//   - Lookups take no lock and may run while databases are reloaded.
//
// # Databases
//
// Files of MaxMind's format with the fields of GeoLite2 and GeoIP2: City,
// Country, ASN, ISP, DB-IP's twins of them, or all in one file. Several are
// asked in order, and what one does not know the next may. Without any, the
// embedded [Demo] database is used. It covers some hundreds of networks, is
// approximate, and is no substitute for a real one.
package geo
