package core

import (
	"encoding/hex"
	"fmt"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/journal"
)

// rowKind is a table whose rows are shown to people.
type rowKind struct {
	name string
	row  func() proto.Message
}

var rowKinds = map[journal.Table]rowKind{
	tableAccount: {"account", func() proto.Message { return new(v1.AccountRow) }},
	tableMember:  {"member", func() proto.Message { return new(v1.MemberRow) }},
	tableDevice:  {"device", func() proto.Message { return new(v1.DeviceRow) }},
	tableContact: {"contact", func() proto.Message { return new(v1.ContactRow) }},
	tableSetting: {"setting", func() proto.Message { return new(v1.SettingRow) }},
	tableRead:    {"read", func() proto.Message { return new(v1.ReadRow) }},
	tableOnce:    {"once", func() proto.Message { return new(v1.OnceRow) }},
}

func tableName(t journal.Table) string {
	if k, ok := rowKinds[t]; ok {
		return k.name
	}
	return fmt.Sprintf("table %d", t)
}

// rowKeyText is a number for keys that are UINs, and hexadecimal for others.
func rowKeyText(key []byte) string {
	if n, ok := numberOf(key); ok && n < 1<<53 {
		return itoa(n)
	}
	return hex.EncodeToString(key)
}

// rowText is a row's value as one line of JSON, or how many bytes it has.
func rowText(t journal.Table, deleted bool, value []byte) string {
	if deleted {
		return "deleted"
	}
	if k, ok := rowKinds[t]; ok {
		m := k.row()
		if proto.Unmarshal(value, m) == nil {
			if b, err := protojson.Marshal(m); err == nil {
				return string(b)
			}
		}
	}
	return fmt.Sprintf("%d bytes", len(value))
}
