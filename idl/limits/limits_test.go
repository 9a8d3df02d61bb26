package limits

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// The table of the book says the same numbers as the code [P-12].
func TestTheBookSaysTheSame(t *testing.T) {
	text, err := os.ReadFile("../PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, ok := strings.Cut(string(text), "## 12. Limits and defaults")
	if !ok {
		t.Fatal("PROTOCOL.md has no table of limits")
	}
	table, _, _ = strings.Cut(table, "\n## ")
	for _, line := range []string{
		"| body of HELLO and of its answer | " + thousands(HelloBodyBytes) + " bytes |",
		"| body to the gate before the login is answered | " + thousands(BodyBeforeLoginBytes) + " bytes plain |",
		"| body to the gate | " + thousands(BodyToGateBytes) + " bytes plain (max_body_bytes) |",
		"| body to the client | " + thousands(BodyToClientBytes) + " bytes plain |",
		"| content of a message | " + thousands(ContentBytes) + " bytes (max_content_bytes) |",
		fmt.Sprintf("| type | %d bytes |", TypeBytes),
		fmt.Sprintf("| domain / uid | 1..%d / 1..%d bytes |", DomainBytes, UIDBytes),
		"| token | " + thousands(TokenBytes) + " bytes |",
		fmt.Sprintf("| installation, client_msg_id | %d bytes |", InstallationBytes),
		fmt.Sprintf("| traceparent | %d bytes |", TraceparentBytes),
		fmt.Sprintf("| sdk in the offer / entries of its lists | %d bytes / %d each |", SDKNameBytes, OfferedOptions),
		fmt.Sprintf("| reason | %d bytes |", ReasonBytes),
		fmt.Sprintf("| ids in a CONFIRM | 1..%d |", ConfirmIDs),
		"| targets of a push, users of a presence question | 1.." + thousands(PushTargets) + " |",
		fmt.Sprintf("| rows of a page | 1..%d, 0 means %d |", PullRows, PullRowsDefault),
		fmt.Sprintf("| content of a page | %d KiB, and the body limit |", PullContentBytes>>10),
		fmt.Sprintf("| longest and default time to live; resending | %d days |", TTL/(24*time.Hour)),
		fmt.Sprintf("| unanswered requests (max_in_flight) | %d;", MaxInFlight),
	} {
		if !strings.Contains(table, line) {
			t.Errorf("the table has no line %q", line)
		}
	}
	if ClientMsgIDBytes != InstallationBytes || ResendFor != TTL {
		t.Error("the table joins what differs")
	}
}

func thousands(n int) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%d,%03d", n/1000, n%1000)
}
