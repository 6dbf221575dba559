package worldfile

// The file's shape. Scalars with a syntax of their own (ranges, addresses,
// shares) are strings here and read in compile.go, where their path is known.

type file struct {
	Name       string    `yaml:"name"`
	Zone       string    `yaml:"zone"`
	Partitions int       `yaml:"partitions"`
	Threshold  *int      `yaml:"threshold"`
	Operators  []string  `yaml:"operators"`
	Root       string    `yaml:"root"`
	Steering   *steering `yaml:"steering"`
	Regions    []regionY `yaml:"regions"`
	POPs       []popY    `yaml:"pops"`
	DNS        []nodeY   `yaml:"dns"`
	IDs        []nodeY   `yaml:"ids"`
	Segments   []segment `yaml:"segments"`
	Retired    []string  `yaml:"retired"`
	Carriers   []carrier `yaml:"carriers"`
	Places     []prefixY `yaml:"places"`
	Rules      []ruleY   `yaml:"rules"`
}

type steering struct {
	TTL     *uint32 `yaml:"ttl"`
	Answers *int    `yaml:"answers"`
	AllDown string  `yaml:"all-down"`
}

type serves struct {
	Long  string `yaml:"long"`
	Short string `yaml:"short"`
	Web   string `yaml:"web"`
}

type placeY struct {
	City        string  `yaml:"city"`
	Country     string  `yaml:"country"`
	Continent   string  `yaml:"continent"`
	Subdivision string  `yaml:"subdivision"`
	Latitude    float64 `yaml:"lat"`
	Longitude   float64 `yaml:"lon"`
}

type regionY struct {
	ID      string   `yaml:"id"`
	Title   string   `yaml:"title"`
	Place   placeY   `yaml:"place"`
	Zones   []string `yaml:"zones"`
	Backups []string `yaml:"backups"`
	Acting  string   `yaml:"acting"`
	Key     string   `yaml:"key"`
	Serves  serves   `yaml:"serves"`
	Admin   string   `yaml:"admin"`
	Queue   string   `yaml:"queue"`
	Users   uint64   `yaml:"users"`

	NewBackup string `yaml:"new-backup"`
	Away      bool   `yaml:"away"`
}

type popY struct {
	ID         string `yaml:"id"`
	Title      string `yaml:"title"`
	Place      placeY `yaml:"place"`
	Serves     serves `yaml:"serves"`
	Admin      string `yaml:"admin"`
	Key        string `yaml:"key"`
	Witness    bool   `yaml:"witness"`
	Drain      bool   `yaml:"drain"`
	DrainShare string `yaml:"drain-share"`
	Users      uint64 `yaml:"users"`

	Check checkY  `yaml:"check"`
	Names []nameY `yaml:"names"`
}

type checkY struct {
	Via  string `yaml:"via"`
	Port uint16 `yaml:"port"`
	Path string `yaml:"path"`
	Host string `yaml:"host"`
}

// nameY is where a name of a stand-alone DNS server leads.
type nameY struct {
	Name string `yaml:"name"`
	A    string `yaml:"a"`
	AAAA string `yaml:"aaaa"`
	Port uint16 `yaml:"port"`
}

type nodeY struct {
	Name    string `yaml:"name"`
	Address string `yaml:"address"`
	HTTP    string `yaml:"http"`
	Admin   string `yaml:"admin"`
	Key     string `yaml:"key"`
}

type segment struct {
	UINs string `yaml:"uins"`
	Home string `yaml:"home"`
}

type carrier struct {
	Name string   `yaml:"name"`
	ASNs []uint32 `yaml:"asns"`
}

type prefixY struct {
	Prefix string `yaml:"prefix"`
	Place  placeY `yaml:"place"`
	ASN    uint32 `yaml:"asn"`
}

type ruleY struct {
	Name  string `yaml:"name"`
	Match matchY `yaml:"match"`
	Act   actY   `yaml:"act"`
}

type matchY struct {
	All        []matchY  `yaml:"all"`
	Any        []matchY  `yaml:"any"`
	Not        *matchY   `yaml:"not"`
	Services   []string  `yaml:"services"`
	UINs       []string  `yaml:"uins"`
	Percent    *percentY `yaml:"percent"`
	Versions   []string  `yaml:"versions"`
	Platforms  []string  `yaml:"platforms"`
	Prefixes   []string  `yaml:"prefixes"`
	Countries  []string  `yaml:"countries"`
	Continents []string  `yaml:"continents"`
	ASNs       []uint32  `yaml:"asns"`
	Carriers   []string  `yaml:"carriers"`
	Homes      []string  `yaml:"homes"`
	Acting     []string  `yaml:"acting"`

	Cities         []string `yaml:"cities"`
	Subdivisions   []string `yaml:"subdivisions"`
	HealthyPOPs    []string `yaml:"healthy-pops"`
	HealthyRegions []string `yaml:"healthy-regions"`
}

type percentY struct {
	Salt  string `yaml:"salt"`
	Share string `yaml:"share"`
}

type actY struct {
	POPs    []string  `yaml:"pops"`
	Regions []string  `yaml:"regions"`
	Pool    []memberY `yaml:"pool"`
	Nearest bool      `yaml:"nearest"`
	TTL     uint32    `yaml:"ttl"`
	Order   string    `yaml:"order"`
	Band    string    `yaml:"band"`
	Sticky  string    `yaml:"sticky"`
	Spill   string    `yaml:"spill"`
	AllDown string    `yaml:"all-down"`
}

type memberY struct {
	POP    string  `yaml:"pop"`
	Region string  `yaml:"region"`
	Tier   uint32  `yaml:"tier"`
	Weight *uint32 `yaml:"weight"`
	Drain  string  `yaml:"drain"`
}
