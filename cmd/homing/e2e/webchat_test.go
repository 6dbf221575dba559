package e2e

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/homing-im/homing/cmd/homing/browsertest"
)

// person is somebody at the chat page.
type person struct {
	t   *testing.T
	tab context.Context
}

func (p person) do(what string, steps ...browsertest.Step) {
	p.t.Helper()
	if err := chromedp.Do(p.tab, steps...); err != nil {
		var said string
		said, _ = chromedp.Run(p.tab, chromedp.Evaluate[string](`document.body.innerText`))
		p.t.Fatalf("%s: %v\nthe page says: %s", what, err, said)
	}
}

func fill(id, text string) browsertest.Step { return chromedp.SetValue("#"+id, text) }

func submit(form string) browsertest.Step {
	return chromedp.Click("#" + form + " button")
}

func labelled(id, text string) browsertest.Step {
	return browsertest.Shows(fmt.Sprintf("document.getElementById(%q).textContent.includes(%q)", id, text))
}

// has waits for a message of the conversation that is shown, and for just one.
func has(text string) browsertest.Step {
	return browsertest.Shows(fmt.Sprintf("[...document.querySelectorAll('#messages li:not(.waiting)')].filter(l => l.firstChild.textContent == %q).length == 1", text))
}

// record waits until the only user this browser keeps is as the expression says,
// and changes it.
func record(expression, change string) browsertest.Step {
	return browsertest.Shows(fmt.Sprintf(`(() => {
		const open = indexedDB.open("homing");
		open.onsuccess = () => {
			const users = open.result.transaction("users", "readwrite").objectStore("users");
			const all = users.getAll();
			all.onsuccess = () => {
				if (%s) { %s; users.put(all.result[0]).onsuccess = () => { window.found = true; }; }
				open.result.close();
			};
		};
		const found = window.found;
		delete window.found;
		return found;
	})()`, expression, change))
}

// register makes a user and a handle at the page of a web listener.
func (p person) register(url, nickname, connected string) {
	p.t.Helper()
	p.do(nickname+" registers", chromedp.EmulateViewport(1100, 700), chromedp.Navigate(url),
		browsertest.Shows(`!document.querySelector("#door").hidden`),
		fill("nickname", nickname), submit("register"), labelled("state", connected))
}

// opens opens the conversation with a handle, as soon as it is known there.
func (p person) opens(handle, shown string) {
	p.t.Helper()
	opened := fmt.Sprintf("document.querySelector('#peer').textContent == %q", shown)
	for deadline := time.Now().Add(time.Minute); ; {
		p.do("opens "+handle, fill("whom", handle), submit("open"),
			browsertest.Shows(fmt.Sprintf("document.querySelector('#peer').textContent.includes(%q) || !document.querySelector('#problem').hidden", handle)))
		if ok, err := chromedp.Run(p.tab, chromedp.Evaluate[bool](opened)); ok && err == nil {
			return
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("%s cannot be opened", handle)
		}
	}
}

func (p person) writes(text string) {
	p.t.Helper()
	p.do("writes "+text, fill("text", text), submit("compose"), has(text))
}

// chooses waits for news in a conversation of the list, and opens it.
func (p person) chooses(with string) {
	p.t.Helper()
	button := fmt.Sprintf("[...document.querySelectorAll('#conversations button')].find(b => b.firstChild.textContent == %q)", with+" ●")
	p.do("news of "+with, browsertest.Shows(button))
	p.do("chooses "+with, browsertest.Shows(button+".click() || true"))
}

// returns comes back to the page as the user this browser knows.
func (p person) returns(url, region string) {
	p.t.Helper()
	p.do("comes back", chromedp.Navigate(url), browsertest.Shows(`document.querySelector("#users button")`),
		chromedp.Click("#users button"), labelled("state", "connected to "+region))
}

// The chat page, in a real browser: users of two regions find each other, write
// live in both directions, make a group, miss nothing while away, and are led
// home; a third one comes by long polling, through a POP.
func TestWebChat(t *testing.T) {
	tab := browsertest.Start(t)
	w := startDemo(t)
	at := w.endpoints()
	sh, hk := at.Regions["sh"].Web+"/chat/", at.Regions["hk"].Web+"/chat/"
	alice, bob, carol := person{t, tab}, person{t, browsertest.Tab(t, tab)}, person{t, browsertest.Tab(t, tab)}

	alice.register(sh, "Alice", "connected to sh by WebSocket")
	bob.register(hk, "Bob <b>& Co</b>", "connected to hk by WebSocket")
	const bobs = "Bob <b>& Co</b> @bob"
	alice.do("claims", fill("handle-name", "@alice"), submit("handle"), labelled("me", "@alice"))
	bob.do("claims", fill("handle-name", "bob"), submit("handle"), labelled("me", "@bob"))
	bob.do("wants another's", browsertest.Shows(`document.querySelector("#handle").hidden`))

	alice.opens("@bob", bobs)
	alice.writes("hello from the web")
	bob.chooses("Alice @alice")
	bob.do("reads", has("hello from the web"))
	const evil = `<img src=x onerror="document.title='owned'">`
	bob.writes(evil)
	alice.do("reads live", has(evil), browsertest.Shows(`document.querySelectorAll("#messages img").length == 0 && document.title == "Homing chat"`))

	alice.do("makes a group", fill("group-name", "web weavers"), fill("group-members", "@bob"), submit("group"), labelled("peer", "web weavers"))
	alice.writes("hello group")
	bob.chooses("web weavers")
	bob.do("reads the group", has("hello group"))
	bob.writes("hello from hk")
	alice.do("reads the group", has("hello from hk"), browsertest.Shot(t, "chat-light"), browsertest.Scheme("dark"), browsertest.Shot(t, "chat-dark"))

	bob.do("goes away", chromedp.Navigate("about:blank"))
	alice.opens("@bob", bobs)
	alice.writes("while you were away")
	bob.returns(hk, "hk")
	bob.chooses("Alice @alice")
	bob.do("missed nothing", has("hello from the web"), has(evil), has("while you were away"))

	alice.do("keeps nothing once the backup has it all", record(`all.result[0].kept.length == 0 && all.result[0].messages.length > 3`, ""))

	// Led home: she was in hk the last time, or so the page thinks.
	alice.do("was elsewhere", record("true", fmt.Sprintf("all.result[0].endpoint = %q", strings.TrimPrefix(at.Regions["hk"].Web, "http://"))))
	alice.returns(sh, "sh")

	host, _, err := net.SplitHostPort(at.POPs["pop-5"].Long)
	if err != nil {
		t.Fatal(err)
	}
	pop := fmt.Sprintf("http://%s:%d/chat/?transport=poll", host, w.base+2)
	carol.register(pop, "Carol", "by long polling") // to the region nearest to the POP; here all are
	carol.opens("@bob", bobs)
	carol.writes("by long polling")
	bob.chooses("Carol")
	bob.writes("back to you")
	carol.do("reads live", has("back to you"), chromedp.EmulateViewport(390, 844, chromedp.EmulateMobile),
		browsertest.Shows(`document.documentElement.scrollWidth <= innerWidth`), browsertest.Shot(t, "chat-phone"))
}
