package cli

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/homing-im/homing/cmd/homing/endpoints"
	v1 "github.com/homing-im/homing/region/homingv1"
)

// What is wrong with a command is said in one line before anything is asked of a
// world, which in this test is not even running.
func TestRecordCommandsSayWhatIsWrong(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOMING_HOME", home)
	for args, want := range map[string]string{
		"group create Bob --name x":               `"Bob" is no UIN: want a number such as 1000001`,
		"group create 5":                          `required flag(s) "name" not set`,
		"group set 5":                             "nothing to change: say --name, --announcement or --join",
		"group set 5 --join anybody":              `--join "anybody": want admins, approval, members, open`,
		"group role 5 6":                          `--role "": want admin, member, owner`,
		"group role 5 6 --role king":              `--role "king": want admin, member, owner`,
		"group add 5":                             "requires at least 2 arg(s)",
		"group join":                              "accepts 1 arg(s)",
		"group show @book":                        `"@book" is no UIN`,
		"contact block":                           "accepts 1 arg(s)",
		"contact ask Bob":                         `"Bob" is no UIN`,
		"device revoke xyz":                       `"xyz" is no key ID: want 16 hex digits`,
		"device add":                              `required flag(s) "profile" not set`,
		"account set":                             "nothing to change: say --nickname, --about or --avatar",
		"account erase":                           "whose? say either --as, or --uin and --region",
		"account erase --as A --uin 5":            "whose? say either --as, or --uin and --region",
		"account erase --as A":                    "this cannot be taken back: say --yes as well",
		"account erase --uin A --region sh --yes": `--uin "A": want a number such as 1000001`,
		"account show --as A":                     "start one with: homing demo",
		"queue dead list --region sh":             "start one with: homing demo",
		"queue dead show":                         "accepts 1 arg(s)",
	} {
		code, out, errs := run(t, strings.Fields(args)...)
		if code != 1 || out != "" || strings.Count(errs, "\n") != 1 || !strings.Contains(errs, want) {
			t.Errorf("%s: %d %q %q, want %q", args, code, out, errs, want)
		}
	}
	at := &endpoints.Endpoints{DNS: "127.0.0.1:1", HTTPDNS: "http://127.0.0.1:1", Console: "http://127.0.0.1:1", Zone: "x.test", CACert: "ca.pem",
		Regions: map[string]endpoints.Region{"sh": {Admin: "http://127.0.0.1:1"}}, OperatorKey: filepath.Join(home, "no.pem")}
	if err := at.Write(home); err != nil {
		t.Fatal(err)
	}
	for args, want := range map[string]string{
		"queue dead list --region xx":             `--region "xx": there is sh`,
		"queue dead list --region sh":             "no.pem cannot be read",
		"account erase --uin 5 --region xx --yes": `--region "xx": there is sh`,
		"contact list":                            "say who you are with --as NAME",
	} {
		code, out, errs := run(t, append(strings.Fields(args), "--endpoints", filepath.Join(home, endpoints.File))...)
		if code != 1 || out != "" || strings.Count(errs, "\n") != 1 || !strings.Contains(errs, want) {
			t.Errorf("%s: %d %q %q, want %q", args, code, out, errs, want)
		}
	}
}

// Every kind of message has a line of its own in the terminal, harmless whoever
// wrote it.
func TestTextOfEveryKind(t *testing.T) {
	for want, b := range map[string]*v1.Body{
		"[image/png cat\uFFFD.png, 5 bytes: https://x.test/1]": {Kind: &v1.Body_Media{Media: &v1.Media{Url: "https://x.test/1", MimeType: "image/png", Name: "cat\x1b.png", Bytes: 5}}},
		"[poll\uFFFD, 2 bytes]":                                {Kind: &v1.Body_Custom{Custom: &v1.Custom{Type: "poll\x07", Payload: []byte{1, 2}}}},
		"[group-created by 5: [6 7]]":                          {Kind: &v1.Body_System{System: &v1.System{Event: "group-created", Actor: 5, Members: []uint64{6, 7}}}},
		"[a kind of message this version does not know]":       {},
	} {
		if got := text(b); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
