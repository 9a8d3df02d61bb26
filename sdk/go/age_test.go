package gatepost

import (
	"testing"
	"time"
)

// A message that was handed over while a turn of the loop ran is younger than that turn; its age on the wire has no sign.
func TestAgeIsNeverNegative(t *testing.T) {
	now := time.Now()
	c := &Client{}
	for _, e := range []*entry{{born: now.Add(5 * time.Millisecond)}, {OutboxEntry: OutboxEntry{CreatedAt: now.Add(time.Hour)}}} {
		if age := c.age(e, now); age != 0 {
			t.Errorf("age is %s", age)
		}
	}
	if age := c.age(&entry{born: now.Add(-time.Second)}, now); age != time.Second {
		t.Errorf("age is %s", age)
	}
}
