package geo

import (
	"bytes"
	_ "embed"
)

// Names of the embedded databases, for [Options].Files.
const (
	// EmbeddedCountry knows the country of nearly every address, and nothing
	// finer: a country's coordinates are those of one city, and carriers need a
	// database of AS numbers or an overlay. It is made from the IPFire location
	// database; see NOTICE for its licence and generate/country for how.
	EmbeddedCountry = "country"

	// EmbeddedDemo knows cities and carriers of some hundreds of networks,
	// approximately, for demonstrations.
	EmbeddedDemo = "demo"
)

// CountryDatabase is a copy of the file of EmbeddedCountry, for other programs.
func CountryDatabase() []byte { return bytes.Clone(country) }

// Embedded says whether a name is that of an embedded database.
func Embedded(name string) bool { return name == EmbeddedCountry || name == EmbeddedDemo }

//go:embed country.mmdb
var country []byte

//go:generate go run ./generate -out demo.mmdb
//go:embed demo.mmdb
var demo []byte
