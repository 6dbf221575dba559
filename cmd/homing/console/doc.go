// Package console is the web page that shows a whole world at work: a live map
// of regions and POPs, who acts for whom, how far each copy lags, how many
// users are online and what is alarming.
//
// It guarantees that looking changes nothing: it answers GET and HEAD only,
// calls nothing but the State function it was given, at most once per
// [Interval] however many pages are open, and the page is self-contained,
// loads nothing from elsewhere and runs no inline script. It has no login; it
// refuses requests whose Host is neither an IP address nor localhost nor a name it was told
// of, so that a foreign page cannot read it through a re-bound name. Bind it
// to loopback or put it behind the operator's own proxy.
//
//	GET /           the page
//	GET /api/state  a State as JSON
//	GET /events     Server-Sent Events: one "state" event per Interval, data as above
package console
