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
//     good one stays, the error is returned, counted and logged, and [DB.Trouble]
//     says it for as long as it is so.
//   - Lookups take no lock and may run while databases are reloaded.
//
// # Databases
//
// Files of MaxMind's format with the fields of GeoLite2 and GeoIP2: City,
// Country, ASN, ISP, DB-IP's twins of them, or all in one file. Several are
// asked in order, and what one does not know the next may: a whole place, or the
// carrier. Two are embedded: [EmbeddedCountry], the default, which knows countries
// only, and [EmbeddedDemo].
//
// They are read with maxminddb-golang, which geoip2-golang is made of. That one
// refuses a file whose type it does not know, as one with places and carriers in
// it, and decodes names in every language, of which none is needed here.
//
// An overlay is a CSV file (RFC 4180, # begins a comment) with this header:
//
//	prefix,continent,country,city,latitude,longitude,asn
//	117.136.8.0/24,AS,CN,Shanghai,31.23,121.47,9808
//	100.64.0.0/10,,,,,,64512
//
// What a row leaves empty it does not know; coordinates 0,0 count as empty. The
// longest prefix wins. Mistakes are refused with their line.
package geo
