package archtest_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatepost/gatepost/test/archtest"
)

const m = archtest.Module + "/"

// everything returns the packages as they are built for users and for each kind of test.
func everything(t *testing.T) []archtest.Package {
	t.Helper()
	var all []archtest.Package
	for _, tags := range []string{"", "integration", "e2e"} {
		packages, err := archtest.List("../..", tags)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, packages...)
	}
	return all
}

func TestArrowsHold(t *testing.T) {
	for _, fault := range archtest.Check(archtest.Rows(), everything(t)) {
		t.Error(fault)
	}
}

// TestPicture prints the arrows that there are (make arrows). It also sees that the list was read at all.
func TestPicture(t *testing.T) {
	arrows := archtest.Arrows(archtest.Rows(), everything(t))
	if !slices.Contains(arrows, "gate --> idl") {
		t.Errorf("gate does not import idl: %v", arrows)
	}
	t.Log("arrows\nflowchart TD\n  " + strings.Join(arrows, "\n  "))
}

// TestPlantedFaults shows that the checker finds what it is there for.
func TestPlantedFaults(t *testing.T) {
	tests := []struct {
		name string
		pkg  archtest.Package
		want []string
	}{
		{
			name: "as it should be",
			pkg: archtest.Package{
				ImportPath: m + "gate", Imports: []string{"net/http", m + "idl/wire", m + "gate/rpc"},
				Deps: []string{"database/sql", m + "idl/wire"},
			},
		},
		{
			name: "gate imports logic",
			pkg:  archtest.Package{ImportPath: m + "gate/rpc", Imports: []string{m + "logic"}},
			want: []string{"gate/rpc imports logic: no arrow leads there"},
		},
		{
			name: "gate imports a driver and reaches another",
			pkg: archtest.Package{
				ImportPath: m + "gate", Imports: []string{"database/sql", "github.com/redis/go-redis/v9"},
				Deps: []string{"github.com/redis/go-redis/v9", "gorm.io/gorm"},
			},
			want: []string{
				"gate imports database/sql: gate never does",
				"gate imports github.com/redis/go-redis/v9: gate never does",
				"gate reaches gorm.io/gorm: gate never does, not even through others",
			},
		},
		{
			name: "logic imports a store and the wire",
			pkg:  archtest.Package{ImportPath: m + "logic", Imports: []string{m + "store", m + "store/memory", m + "idl/wire", m + "idl/status"}},
			want: []string{"logic imports idl/wire: no arrow leads there", "logic imports store/memory: no arrow leads there"},
		},
		{
			name: "tests of logic may use a store, not the gate",
			pkg:  archtest.Package{ImportPath: m + "logic", TestImports: []string{m + "store/memory"}, XTestImports: []string{m + "gate"}},
			want: []string{"the tests of logic import gate: no arrow leads there"},
		},
		{
			name: "idl imports another room",
			pkg:  archtest.Package{ImportPath: m + "idl/wire", Imports: []string{m + "idl/status", m + "store"}},
			want: []string{"idl/wire imports store: no arrow leads there"},
		},
		{
			name: "the SDK reaches a driver that registers itself, and Kitex",
			pkg:  archtest.Package{ImportPath: m + "sdk/go/sqlitestore", Deps: []string{"modernc.org/sqlite", "github.com/ncruces/go-sqlite3", "github.com/cloudwego/kitex/client"}},
			want: []string{
				"sdk/go/sqlitestore reaches github.com/cloudwego/kitex/client: sdk never does, not even through others",
				"sdk/go/sqlitestore reaches modernc.org/sqlite: sdk never does, not even through others",
			},
		},
		{
			name: "app-servers' SDK may speak gRPC, not Kitex",
			pkg: archtest.Package{
				ImportPath: m + "sdk/go/appserver", Imports: []string{"google.golang.org/grpc", m + "sdk/go"}, Deps: []string{"github.com/cloudwego/kitex/client"},
			},
			want: []string{"sdk/go/appserver reaches github.com/cloudwego/kitex/client: sdk/go/appserver never does, not even through others"},
		},
		{
			name: "somebody imports cmd",
			pkg:  archtest.Package{ImportPath: m + "app", XTestImports: []string{m + "cmd/gatepost"}},
			want: []string{"the tests of app import cmd/gatepost: no arrow leads there"},
		},
		{
			name: "a room without a row",
			pkg:  archtest.Package{ImportPath: m + "util"},
			want: []string{"util has no row in the table of rooms"},
		},
		{
			name: "a name that only begins alike",
			pkg:  archtest.Package{ImportPath: m + "gatekeeper", Imports: []string{m + "logic"}},
			want: []string{"gatekeeper has no row in the table of rooms"},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := archtest.Check(archtest.Rows(), []archtest.Package{test.pkg})
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("faults (-want +got):\n%s", diff)
			}
		})
	}
}
