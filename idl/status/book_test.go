package status

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/gatepost/gatepost/idl/gen/statuspb"
)

// The book has a line for each code, under the name that status.proto gives it.
func TestTheBookNamesEachCode(t *testing.T) {
	book, err := os.ReadFile("../PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	for number, name := range statuspb.Status_name {
		if line := fmt.Sprintf("\n| %d | %s |", number, strings.TrimPrefix(name, "STATUS_")); !strings.Contains(string(book), line) {
			t.Errorf("PROTOCOL.md has no line %q", strings.TrimSpace(line))
		}
	}
}
