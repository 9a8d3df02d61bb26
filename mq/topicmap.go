package mq

// TopicMap says which topic the uplinks of one domain go to, by their message type.
type TopicMap struct {
	// Topics maps a type, or a pattern of types, to a topic. A pattern ends in "*" and stands for all types that begin with what is
	// before it. The exact type wins, then the longest pattern.
	Topics map[string]string `koanf:"topics"`
	// Default is the topic of every other type. Empty: types that Topics does not name are refused.
	Default string `koanf:"default"`
}
