package core

import (
	"context"

	"google.golang.org/protobuf/proto"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/store"
)

// accountState is an owner's account as a transaction knows it.
type accountState struct {
	loaded bool
	row    *v1.AccountRow // nil: no such owner
}

// theAccount returns the owner's account, nil when there is none.
func (t *txn) theAccount() (*v1.AccountRow, error) {
	if t.account.loaded {
		return t.account.row, nil
	}
	a := new(v1.AccountRow)
	ok, err := t.load(tableAccount, keySingle, a)
	if err != nil {
		return nil, err
	}
	t.account.loaded = true
	if ok {
		t.account.row = a
	}
	return t.account.row, nil
}

// saveAccount writes the account row and remembers it.
func (t *txn) saveAccount(a *v1.AccountRow) error {
	if _, err := t.theAccount(); err != nil {
		return err
	}
	t.account.row = a
	return t.save(tableAccount, keySingle, a)
}

// mustAccount is theAccount for an owner who asks: a ticket was given out for
// it, so a missing account is a loss, not a mistake of the caller.
func (t *txn) mustAccount() (*v1.AccountRow, error) {
	a, err := t.theAccount()
	if err == nil && a == nil {
		err = region.Errorf(region.NotFound, "UIN %d has no account here", t.owner).WithHint("it is late or was lost in a failover; ask the operator")
	}
	return a, err
}

// accountOf reads anybody's account: the row is shared with every region. It is
// nil when it is not here, or not yet.
func (c *Core) accountOf(ctx context.Context, u region.UIN) (*v1.AccountRow, store.Row, error) {
	r, err := c.o.Store.Get(ctx, u, tableAccount, keySingle)
	if err != nil || !r.Exists() {
		return nil, r, err
	}
	a := new(v1.AccountRow)
	return a, r, unmarshalRow(&r, a)
}

func publicAccount(u region.UIN, home region.ID, a *v1.AccountRow) *v1.Account {
	return &v1.Account{Uin: uint64(u), Nickname: a.Nickname, Handle: a.Handle, Home: string(home), Group: a.Group,
		Announcement: a.Announcement, Join: a.Join, About: a.About, Avatar: a.Avatar, Erased: a.ErasedUnixMilli != 0}
}

// Resolve finds a user or group by handle or UIN. A UIN is looked for in this
// region's copy of the accounts, which follows the others' with a lag.
//
// Errors: NotFound; BadInput unless exactly one of both is given; Unavailable
// when the Directory does not answer for a handle.
func (c *Core) Resolve(ctx context.Context, by Caller, r *v1.ResolveRequest) (_ *v1.ResolveResponse, err error) {
	defer c.m.count("Resolve", &err)
	if err := needUser(by); err != nil {
		return nil, err
	}
	u, err := c.target(ctx, r.Uin, r.Handle)
	if err != nil {
		return nil, err
	}
	v, err := c.view()
	if err != nil {
		return nil, err
	}
	p, ok := v.Placement(u)
	if !ok {
		return nil, region.Errorf(region.NotFound, "UIN %d belongs to no region", u).WithHint("check the number")
	}
	a, _, err := c.accountOf(ctx, u)
	if err != nil {
		return nil, err
	}
	if a == nil {
		if r.Handle == "" {
			return nil, region.Errorf(region.NotFound, "no account has UIN %d here", u).WithHint("check the number; a new account of another region takes a moment to arrive")
		}
		// The directory vouches for the owner; the rest is on its way here.
		return &v1.ResolveResponse{Account: &v1.Account{Uin: uint64(u), Handle: r.Handle, Home: string(p.Home)}}, nil
	}
	account := publicAccount(u, p.Home, a)
	if account.Erased {
		return &v1.ResolveResponse{Account: account}, nil
	}
	if a.Group {
		m, err := c.membersOf(ctx, u, a)
		if err != nil {
			return nil, err
		}
		m.describe(account)
	}
	return &v1.ResolveResponse{Account: account}, nil
}

// target finds the owner that a request names by UIN or by handle.
func (c *Core) target(ctx context.Context, uin uint64, handle string) (region.UIN, error) {
	switch {
	case uin != 0 && handle != "", uin == 0 && handle == "":
		return 0, region.Errorf(region.BadInput, "want either a UIN or a handle").WithHint("set exactly one of both")
	case uin != 0:
		return region.UIN(uin), nil
	}
	if err := checkHandle(handle); err != nil {
		return 0, err
	}
	return c.o.Directory.Resolve(ctx, handle)
}

// UpdateProfile changes what the caller's account says to others; what the
// request does not set stays. The caller's other devices learn it by Sync, others
// by Resolve. Retrying it is safe: a repeat under the same idempotency key
// changes nothing, even after a later update.
//
// Errors: BadInput for a request that sets nothing, a nickname over MaxNickname
// characters, a text over MaxAbout characters, or an avatar that is not an
// absolute URL of at most MaxURL bytes; NotFound without an account.
func (c *Core) UpdateProfile(ctx context.Context, by Caller, r *v1.UpdateProfileRequest) (_ *v1.UpdateProfileResponse, err error) {
	defer c.m.count("UpdateProfile", &err)
	if err := needUser(by); err != nil {
		return nil, err
	}
	if r.Nickname != "" || r.About == nil && r.Avatar == nil {
		if err := checkName("nickname", r.Nickname); err != nil {
			return nil, err
		}
	}
	if err := checkParagraph("about", r.GetAbout(), MaxAbout); err != nil {
		return nil, err
	}
	if r.GetAvatar() != "" {
		if err := checkURL("avatar", r.GetAvatar()); err != nil {
			return nil, err
		}
	}
	resp := new(v1.UpdateProfileResponse)
	err = c.once(ctx, by.UIN, "UpdateProfile", r.IdempotencyKey, r, resp, func(t *txn) error {
		a, err := t.mustAccount()
		if err != nil {
			return err
		}
		a = proto.Clone(a).(*v1.AccountRow)
		if r.Nickname != "" {
			a.Nickname = r.Nickname
		}
		if r.About != nil {
			a.About = *r.About
		}
		if r.Avatar != nil {
			a.Avatar = *r.Avatar
		}
		resp.Account = publicAccount(by.UIN, t.place.Home, a)
		return t.saveAccount(a)
	})
	return resp, err
}

// ClaimHandle gives the caller a worldwide unique handle, for ever. It asks the
// Directory first and then writes the account; a claim cut off in between is
// finished by claiming again.
//
// Errors: BadInput for a handle that is not MinHandle to MaxHandle characters of
// its alphabet; Conflict when it is taken, or the caller has another one;
// Unavailable when the Directory does not answer; NotFound without an account.
func (c *Core) ClaimHandle(ctx context.Context, by Caller, r *v1.ClaimHandleRequest) (_ *v1.ClaimHandleResponse, err error) {
	defer c.m.count("ClaimHandle", &err)
	if err := needUser(by); err != nil {
		return nil, err
	}
	if err := checkHandle(r.Handle); err != nil {
		return nil, err
	}
	if err := checkKey("idempotency_key", r.IdempotencyKey); err != nil {
		return nil, err
	}
	// Before a name is given away for good, be sure the account could take it.
	mine := func(t *txn) (*v1.AccountRow, error) {
		a, err := t.mustAccount()
		if err == nil && a.Handle != "" && a.Handle != r.Handle {
			err = region.Errorf(region.Conflict, "you have the handle %q", a.Handle).WithHint("a handle cannot be changed")
		}
		return a, err
	}
	if err := c.asUser(ctx, by.UIN, func(t *txn) error { _, err := mine(t); return err }); err != nil {
		return nil, err
	}
	if err := c.o.Directory.Claim(ctx, r.Handle, by.UIN); err != nil {
		return nil, err
	}
	err = c.asUser(ctx, by.UIN, func(t *txn) error {
		a, err := mine(t)
		if err != nil || a.Handle == r.Handle {
			return err
		}
		a = proto.Clone(a).(*v1.AccountRow)
		a.Handle = r.Handle
		return t.saveAccount(a)
	})
	if err != nil {
		return nil, err
	}
	return &v1.ClaimHandleResponse{Handle: r.Handle}, nil
}
