package node

import "time"

// Messages says what a region does with messages.
type Messages struct {
	// Retention is how long messages are kept, at least 1h; 0 is for ever. What is
	// older is removed in the background, from the oldest on.
	Retention time.Duration `yaml:"retention,omitempty"`
	// UserRate and DeviceRate are how many messages a second a user and each of its
	// devices may send, with bursts of two seconds' worth; beyond that they are told
	// when to try again. Far more than people type, and less than what a runaway
	// program could do to others. Defaults 1000 and 500.
	UserRate   int `yaml:"userRate,omitempty"`
	DeviceRate int `yaml:"deviceRate,omitempty"`
}

func (m *Messages) validate(c *Config) error {
	if *m != (Messages{}) && !c.Has(RoleRegion) && !c.Has(RoleStore) && !c.Has(RoleLogic) {
		return wrongf("messages", "messages is for role region only")
	}
	if m.Retention != 0 && m.Retention < time.Hour {
		return wrongf("messages.retention", "messages.retention %s is below 1h: clients that were away would miss what nobody meant to remove", m.Retention)
	}
	if m.UserRate < 0 {
		return wrongf("messages.userRate", "messages.userRate %d is negative", m.UserRate)
	}
	if m.DeviceRate < 0 {
		return wrongf("messages.deviceRate", "messages.deviceRate %d is negative", m.DeviceRate)
	}
	if m.UserRate == 0 {
		m.UserRate = 1000
	}
	if m.DeviceRate == 0 {
		m.DeviceRate = 500
	}
	return nil
}
