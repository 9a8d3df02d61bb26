package kafka

import "time"

// SetRefusalSpan sets how long a record must have failed before it is refused, in lanes that begin after it.
func (p *Producer) SetRefusalSpan(d time.Duration) { p.rule.span = d }
