package mq

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// TopicMap says which topic the uplinks of one domain go to, by their message type.
type TopicMap struct {
	// Topics maps a type, or a pattern of types, to a topic. A pattern ends in "*" and stands for all types that begin with what is
	// before it. The exact type wins, then the longest pattern.
	Topics map[string]string `koanf:"topics"`
	// Default is the topic of every other type. Empty: types that Topics does not name are refused.
	Default string `koanf:"default"`
}

// Topic returns the topic of messageType; false: no topic takes it.
func (m TopicMap) Topic(messageType string) (topic string, ok bool) {
	// A type that itself ends in "*" is no pattern: it matches as any other one does.
	if topic, ok := m.Topics[messageType]; ok && !strings.HasSuffix(messageType, "*") {
		return topic, true
	}
	longest := -1
	for pattern, candidate := range m.Topics {
		prefix, isPattern := strings.CutSuffix(pattern, "*")
		if isPattern && len(prefix) > longest && strings.HasPrefix(messageType, prefix) {
			topic, longest = candidate, len(prefix)
		}
	}
	if longest >= 0 {
		return topic, true
	}
	return m.Default, m.Default != ""
}

// All returns every topic that a type may go to, sorted, each once.
func (m TopicMap) All() []string {
	all := slices.Collect(maps.Values(m.Topics))
	if m.Default != "" {
		all = append(all, m.Default)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// Validate returns all faults, joined.
func (m TopicMap) Validate() error {
	var faults []error
	for _, pattern := range slices.Sorted(maps.Keys(m.Topics)) {
		if pattern == "" {
			faults = append(faults, errors.New("topics: an empty type"))
		}
		if i := strings.IndexByte(pattern, '*'); i >= 0 && i != len(pattern)-1 {
			faults = append(faults, fmt.Errorf("topics: %q: * may only stand at the end", pattern))
		}
		if err := ValidTopic(m.Topics[pattern]); err != nil {
			faults = append(faults, fmt.Errorf("topics: %q: %w", pattern, err))
		}
	}
	if m.Default != "" {
		if err := ValidTopic(m.Default); err != nil {
			faults = append(faults, fmt.Errorf("default: %w", err))
		}
	}
	return errors.Join(faults...)
}

// maxTopicName is Kafka's bound, in bytes.
const maxTopicName = 249

// ValidTopic reports whether Kafka takes name as that of a topic: 1 to 249 of A-Z a-z 0-9 . _ - and neither "." nor "..".
func ValidTopic(name string) error {
	switch {
	case name == "":
		return errors.New("a topic without a name")
	case name == "." || name == "..":
		return fmt.Errorf("topic %q: Kafka keeps this name for itself", name)
	case len(name) > maxTopicName:
		return fmt.Errorf("topic %.20q…: %d bytes, Kafka takes %d", name, len(name), maxTopicName)
	}
	for i := range len(name) {
		c := name[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '.' || c == '_' || c == '-') {
			return fmt.Errorf("topic %q: %q is not one of A-Z a-z 0-9 . _ -", name, c)
		}
	}
	return nil
}
