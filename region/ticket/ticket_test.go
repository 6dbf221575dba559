package ticket

import (
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	paseto "aidanwoods.dev/go-paseto"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/wire"
)

func key(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte(name))
	return ed25519.NewKeyFromSeed(seed[:])
}

func public(name string) ed25519.PublicKey { return key(name).Public().(ed25519.PublicKey) }

// world has sh, hk and ca; acting says who acts for sh.
func world(acting region.ID) *region.View {
	w := &region.World{Version: 7}
	for i, id := range []region.ID{"sh", "hk", "ca"} {
		first := region.UIN(i+1) * 1000
		a := region.Acting{Region: id, Counter: 1, Raised: &region.Hash{}}
		if id == "sh" {
			a.Region = acting
		}
		w.Regions = append(w.Regions, region.Region{ID: id, Acting: a, Key: region.PublicKey(public(string(id)))})
		w.Segments = append(w.Segments, region.Segment{First: first, Last: first + 999, Home: id})
	}
	return region.NewView(w, region.Hash{1}, nil)
}

var issued = time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC)

func claims() Claims {
	return Claims{UIN: 1001, PublicKey: public("device"), Issuer: "sh", Term: region.Term{Counter: 1, Raised: region.ShortHash{1, 2, 3}},
		Issued: issued, Expires: issued.Add(24 * time.Hour)}
}

func mint(t testing.TB, c Claims, by string) string {
	t.Helper()
	token, err := Mint(c, key(by))
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// golden is claims() signed by key("sh"): PASETO v4.public has no randomness.
const golden = "v4.public.eyJkcGsiOiJnSlpuelZ2LXpjaEwzWHRVVG1IdkpZdVdBRi1RdjRlMklfcFA0R0dETkhzIiwiZXhwIjoiMjAyNi0wMy0wMlQwODowMDowMFoiLCJpYXQiOiIyMDI2LTAzLTAxVDA4OjAwOjAwWiIs" +
	"ImlzcyI6InNoIiwic3ViIjoiMTAwMSIsInRybSI6IjEvMDEwMjAzMDAwMDAwMDAwMCJ9Js-JQCDb5Dk8qw18XrXhaSOS3tg1ad6LE3JlJoeSDqVNFpWIM4nExeDbJ0iF82sWvgTcD1jPXS4PAdFTbefmDQ.c2g"

func TestGolden(t *testing.T) {
	if got := mint(t, claims(), "sh"); got != golden {
		t.Errorf("token is\n%s\nwant\n%s", got, golden)
	}
	got, err := Verify(world("sh"), golden, issued)
	want := claims()
	want.KeyID = wire.KeyID(want.PublicKey)
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("claims are\n%v, %v\nwant\n%v", got, err, want)
	}
}

func TestVerify(t *testing.T) {
	edit := func(f func(*Claims)) Claims { c := claims(); f(&c); return c }
	raw := func(footer string, put func(*paseto.Token)) string {
		secret, err := paseto.NewV4AsymmetricSecretKeyFromEd25519(key("sh"))
		if err != nil {
			t.Fatal(err)
		}
		c := claims()
		k := paseto.NewToken()
		k.SetFooter([]byte(footer))
		k.SetIssuer("sh")
		k.SetSubject("1001")
		k.SetString("dpk", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
		k.SetString("trm", c.Term.String())
		k.SetIssuedAt(c.Issued)
		k.SetExpiration(c.Expires)
		put(&k)
		return k.V4Sign(secret, nil)
	}
	good := mint(t, claims(), "sh")
	for _, c := range []struct {
		name   string
		token  string
		acting region.ID
		at     time.Duration
		want   string // beginning of the message; "" passes
	}{
		{"good", good, "sh", time.Hour, ""},
		{"good while another acts", good, "hk", time.Hour, ""},
		{"by who acts", mint(t, edit(func(c *Claims) { c.Issuer = "hk" }), "hk"), "hk", 0, ""},
		{"a little early", good, "sh", -time.Minute, ""},
		{"last second", good, "sh", 24*time.Hour - time.Second, ""},
		{"an unknown claim", raw("sh", func(k *paseto.Token) { k.SetString("new", "x") }), "sh", 0, ""},

		{"expired", good, "sh", 24 * time.Hour, "the ticket is expired"},
		{"from the future", good, "sh", -time.Hour, "the ticket is expired or not yet valid"},
		{"by neither", mint(t, edit(func(c *Claims) { c.Issuer = "ca" }), "ca"), "hk", 0, "the ticket is foreign"},
		{"by who acted", mint(t, edit(func(c *Claims) { c.Issuer = "hk" }), "hk"), "sh", 0, "the ticket is foreign"},
		{"of no region", mint(t, edit(func(c *Claims) { c.Issuer = "xx" }), "sh"), "sh", 0, "the ticket is foreign"},
		{"nobody's UIN", mint(t, edit(func(c *Claims) { c.UIN = 9_999_999 }), "sh"), "sh", 0, "the ticket is foreign"},
		{"wrong key", mint(t, claims(), "hk"), "sh", 0, "the ticket is forged"},
		{"altered", good[:40] + "A" + good[41:], "sh", 0, "the ticket is forged"},
		{"another footer", good[:strings.LastIndexByte(good, '.')] + ".aGs", "hk", 0, "the ticket is forged"},
		{"none", "", "sh", 0, "there is no ticket"},
		{"not a token", "hello", "sh", 0, "the ticket is malformed"},
		{"another kind", "v4.local." + good[10:], "sh", 0, "the ticket is malformed"},
		{"no footer", good[:strings.LastIndexByte(good, '.')], "sh", 0, "the ticket is malformed"},
		{"too long", good + strings.Repeat("A", MaxLength), "sh", 0, "the ticket is malformed"},
		{"footer is not issuer", raw("sh", func(k *paseto.Token) { k.SetIssuer("hk") }), "sh", 0, "the ticket is malformed"},
		{"UIN 0", raw("sh", func(k *paseto.Token) { k.SetSubject("0") }), "sh", 0, "the ticket is malformed"},
		{"short device key", raw("sh", func(k *paseto.Token) { k.SetString("dpk", "AAAA") }), "sh", 0, "the ticket is malformed"},
		{"no term", raw("sh", func(k *paseto.Token) { k.SetString("trm", "") }), "sh", 0, "the ticket is malformed"},
		{"a time that is none", raw("sh", func(k *paseto.Token) { k.SetString("exp", "soon") }), "sh", 0, "the ticket is malformed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			now := issued.Add(c.at)
			_, plain := Verify(world(c.acting), c.token, now)
			f := NewVerifier(4)
			_, first := f.Verify(world(c.acting), c.token, now)
			_, second := f.Verify(world(c.acting), c.token, now) // remembered
			for i, err := range []error{plain, first, second} {
				if c.want == "" {
					if err != nil {
						t.Errorf("%d: %v", i, err)
					}
					continue
				}
				var e *region.Error
				if !errors.As(err, &e) || e.Kind != region.Unauthenticated || !strings.HasPrefix(e.Message, c.want) || e.Hint == "" {
					t.Errorf("%d: %v", i, err)
				}
			}
		})
	}
}

// What a verifier remembers is the signature, not the judgement.
func TestVerifierFollowsWorldAndClock(t *testing.T) {
	f := NewVerifier(0)
	byActing := claims()
	byActing.Issuer = "hk"
	token := mint(t, byActing, "hk")
	if _, err := f.Verify(world("hk"), token, issued); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Verify(world("hk"), token, issued.Add(48*time.Hour)); err == nil {
		t.Error("a remembered ticket does not expire")
	}
	if _, err := f.Verify(world("sh"), token, issued); err == nil {
		t.Error("a remembered ticket outlives its issuer's acting")
	}
	rotated := world("hk")
	rotated.World.Regions[1].Key = region.PublicKey(public("new key of hk"))
	if _, err := f.Verify(rotated, token, issued); err == nil {
		t.Error("a remembered ticket outlives its issuer's key")
	}
}

func TestMintRefuses(t *testing.T) {
	for name, edit := range map[string]func(*Claims){
		"no UIN":       func(c *Claims) { c.UIN = 0 },
		"no issuer":    func(c *Claims) { c.Issuer = "" },
		"no key":       func(c *Claims) { c.PublicKey = nil },
		"no life":      func(c *Claims) { c.Expires = c.Issued },
		"upper issuer": func(c *Claims) { c.Issuer = "SH" },
	} {
		c := claims()
		edit(&c)
		if token, err := Mint(c, key("sh")); region.KindOf(err) != region.BadInput || token != "" {
			t.Errorf("%s: %q, %v", name, token, err)
		}
	}
	if _, err := Mint(claims(), key("sh")[:32]); region.KindOf(err) != region.BadInput {
		t.Errorf("short key: %v", err)
	}
}

func FuzzVerify(f *testing.F) {
	f.Add(golden)
	f.Add("v4.public.AAAA.c2g")
	f.Add("v4.public.." + strings.Repeat("c2g", 10))
	v := world("sh")
	f.Fuzz(func(t *testing.T, token string) {
		c, err := Verify(v, token, issued)
		if err == nil && c.UIN != 1001 {
			t.Fatalf("forged: %v", c)
		}
		if err != nil && region.KindOf(err) != region.Unauthenticated {
			t.Fatalf("%v", err)
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	v := world("sh")
	b.Run("first", func(b *testing.B) {
		for b.Loop() {
			if _, err := Verify(v, golden, issued); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("remembered", func(b *testing.B) {
		f := NewVerifier(0)
		for b.Loop() {
			if _, err := f.Verify(v, golden, issued); err != nil {
				b.Fatal(err)
			}
		}
	})
}
