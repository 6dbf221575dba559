package sim

import (
	"bytes"
	"fmt"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/core"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/journal"
)

// user is an account and the client that uses it.
type user struct {
	uin       region.UIN
	home      region.ID // the first one
	partition region.Partition
	caller    core.Caller

	n        int            // what the client did
	sent     []*deed        // acknowledged messages
	snapshot []byte         // as the last answer gave it
	epoch    region.Epoch   // of the newest answer
	known    map[string]int // how often a message was given as new, by ID
}

// deed is a message that was acknowledged.
type deed struct {
	from    *user
	id      []byte
	request *v1.SendRequest

	by    *site // which acknowledged it, in this record
	home  region.ID
	epoch region.Epoch
	seq   uint64
}

// register makes the users. Everything is up, and nothing fails.
func (r *run) register() {
	for _, s := range r.sites {
		for i := range usersPerHome {
			key := keyOf(fmt.Sprint("device", s.id, i)).Public()
			got, err := s.core.Register(r.ctx, core.Caller{}, &v1.RegisterRequest{Nickname: fmt.Sprint(s.id, i), Platform: "sim",
				DeviceKey: publicBytes(key), IdempotencyKey: "register"})
			must(err)
			u := &user{uin: region.UIN(got.Uin), home: s.id, known: map[string]int{}}
			u.partition = region.PartitionOf(u.uin, partitions)
			u.caller = core.Caller{UIN: u.uin, Platform: "sim", DeviceKeyID: [8]byte(got.DeviceKeyId)}
			r.users = append(r.users, u)
		}
	}
	for i, s := range r.sites { // a group in every region, of users of all
		var members []uint64
		for _, u := range r.users {
			members = append(members, uint64(u.uin))
		}
		got, err := s.core.CreateGroup(r.ctx, r.users[i*usersPerHome].caller, &v1.CreateGroupRequest{Name: "group", Members: members, IdempotencyKey: "group"})
		must(err)
		r.groups = append(r.groups, region.UIN(got.Uin))
	}
}

// door is the region that a client asks: mostly the right one.
func (r *run) door(u *user) *site {
	home := r.homeOf(u)
	to := home
	switch {
	case r.dice.roll(6):
		to = homes[r.dice.IntN(3)]
	case !r.dice.roll(4):
		if w := r.worlds[len(r.worlds)-1]; true {
			g, _ := w.World.Region(home)
			to = g.Acting.Region
		}
	}
	if s := r.site(to); s.up {
		return s
	}
	return nil
}

// act does one thing that a client does.
func (r *run) act() {
	u := r.users[r.dice.IntN(len(r.users))]
	s := r.door(u)
	if s == nil {
		return
	}
	u.n++
	key := fmt.Sprint(u.uin, "-", u.n)
	to := r.users[r.dice.IntN(len(r.users))]
	switch r.dice.IntN(22) {
	case 20:
		r.claim(u, s, key)
	case 21:
		if r.dice.roll(4) {
			r.newer(u, to, s)
		}
	case 0, 1, 2:
		_, err := s.core.SetSetting(r.ctx, u.caller, &v1.SetSettingRequest{IdempotencyKey: key,
			Setting: &v1.Setting{Name: fmt.Sprint("s", r.dice.IntN(2)), Value: key, Removed: r.dice.roll(4)}})
		r.did(err)
	case 3:
		_, err := s.core.BlockUser(r.ctx, u.caller, &v1.BlockUserRequest{Uin: uint64(to.uin), Blocked: r.dice.roll(3), IdempotencyKey: key})
		r.did(err)
	case 4, 5:
		group := r.groups[r.dice.IntN(len(r.groups))]
		_, err := s.core.SetMember(r.ctx, u.caller, &v1.SetMemberRequest{Group: uint64(group), Member: uint64(to.uin), Remove: r.dice.roll(2), IdempotencyKey: key})
		r.did(err)
	case 6, 7, 8, 9:
		r.sync(u, s)
	case 10:
		if n := len(u.sent); n > 0 { // again what was acknowledged before
			r.send(u, s, u.sent[r.dice.IntN(n)].request)
		}
	case 11:
		if n := len(u.sent); n > 0 {
			d := u.sent[n-1]
			_, err := s.core.Recall(r.ctx, u.caller, &v1.RecallRequest{ClientMessageId: d.request.ClientMessageId, IdempotencyKey: key})
			r.did(err)
		}
	case 12:
		group := r.groups[r.dice.IntN(len(r.groups))]
		r.send(u, s, &v1.SendRequest{To: uint64(group), ClientMessageId: key, Body: &v1.Body{Kind: &v1.Body_Text{Text: key}}})
	default:
		r.send(u, s, &v1.SendRequest{To: uint64(to.uin), ClientMessageId: key, Body: &v1.Body{Kind: &v1.Body_Text{Text: key}}})
	}
}

func (r *run) did(err error) {
	if err == nil {
		r.stats.Acknowledged++
	} else {
		r.stats.Answers[region.KindOf(err).String()]++
	}
}

func (r *run) send(u *user, s *site, q *v1.SendRequest) {
	got, err := s.core.Send(r.ctx, u.caller, q)
	r.did(err)
	if err != nil {
		return
	}
	d := &deed{from: u, id: got.Id, request: q, by: s}
	p, _ := s.view.Placement(u.uin)
	d.home, d.epoch = p.Home, p.Epoch
	d.seq = s.store.Head(u.partition).Next - 1
	if !got.Repeated {
		u.sent = append(u.sent, d)
		r.note("%s acknowledges %s of %d to %d as record %d of partition %d", s.id, q.ClientMessageId, u.uin, q.To, d.seq, u.partition)
	}
}

// sync asks until there is no more, and checks what it gets (invariant 8).
func (r *run) sync(u *user, s *site) {
	for range 100 {
		got, err := s.core.Sync(r.ctx, u.caller, &v1.SyncRequest{Snapshot: u.snapshot, MaxBytes: 4 << 10})
		r.did(err)
		if err != nil {
			return
		}
		p, _ := s.view.Placement(u.uin)
		if p.Epoch.Less(u.epoch) {
			r.fail(8, "%s answers %d at epoch %s, after %s", s.id, u.uin, p.Epoch, u.epoch)
		}
		u.epoch = p.Epoch
		last := uint64(0)
		for _, m := range got.Messages {
			if m.Sequence <= last {
				r.fail(8, "%s gives %d message %d after %d", s.id, u.uin, m.Sequence, last)
			}
			last = m.Sequence
			u.known[string(m.Id)]++
		}
		u.snapshot = bytes.Clone(got.Snapshot)
		if !got.More {
			r.hasAll(u, s)
			return
		}
	}
	r.fail(8, "%s never comes to an end with %d", s.id, u.uin)
}

// The tables that are looked at. Their numbers are on disk.
const (
	tableAccount journal.Table = 1
	tableInbox   journal.Table = 101
	tableMessage journal.Table = 102
	tableLetter  journal.Table = 106
	tableSetting journal.Table = 110
	tableTail    journal.Table = 120
	tableMove    journal.Table = 121

	tableLostLetter journal.Table = 202
)
