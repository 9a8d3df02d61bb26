package mq_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/gatepost/gatepost/mq"
)

func TestTopicOfType(t *testing.T) {
	m := mq.TopicMap{Topics: map[string]string{"order.*": "orders", "order.paid": "payments", "order.paid.*": "details", "odd*": "odd"}, Default: "rest"}
	for messageType, want := range map[string]string{
		"order.paid": "payments", "order.paid.late": "details", "order.new": "orders", "order.": "orders", "order": "rest", "": "rest", "odd*": "odd", "order.*": "orders",
	} {
		if got, ok := m.Topic(messageType); got != want || !ok {
			t.Errorf("Topic(%q) = %q, %v, want %q", messageType, got, ok, want)
		}
	}
	if got, want := m.All(), []string{"details", "odd", "orders", "payments", "rest"}; !slices.Equal(got, want) {
		t.Errorf("All() = %q, want %q", got, want)
	}
}

func TestTypeWithoutTopic(t *testing.T) {
	m := mq.TopicMap{Topics: map[string]string{"a": "x"}}
	if topic, ok := m.Topic("b"); ok {
		t.Errorf("Topic(b) = %q", topic)
	}
	m.Topics["*"] = "y"
	if topic, ok := m.Topic("b"); topic != "y" || !ok {
		t.Errorf("Topic(b) = %q, %v with *", topic, ok)
	}
	if all := (mq.TopicMap{}).All(); len(all) != 0 {
		t.Errorf("All() of nothing = %q", all)
	}
}

func TestValidateTopicMapTellsAllFaults(t *testing.T) {
	m := mq.TopicMap{Topics: map[string]string{"a*b": "x", "c**": "x", "d": "a/b", "": "x", "e": ".."}, Default: strings.Repeat("n", 250)}
	err := m.Validate()
	for _, want := range []string{`"a*b"`, `"c**"`, `"d"`, "an empty type", `".."`, "250 bytes"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Validate() = %v, lacks %s", err, want)
		}
	}
	good := mq.TopicMap{Topics: map[string]string{"*": "A-z_0.9"}, Default: strings.Repeat("n", 249)}
	if err := errors.Join(good.Validate(), (mq.TopicMap{}).Validate()); err != nil {
		t.Error(err)
	}
}
