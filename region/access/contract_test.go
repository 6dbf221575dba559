package access_test

import (
	"github.com/homing-im/homing/region/access"
	"github.com/homing-im/homing/region/core"
	"github.com/homing-im/homing/region/keeper"
)

// What cmd/homing joins fits together.
var (
	_ access.Logic  = (*core.Core)(nil)
	_ access.World  = (*keeper.Keeper)(nil)
	_ core.Notifier = (*access.Presence)(nil)
)
