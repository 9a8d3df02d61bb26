package archtest

// Module is the import path of this repository.
const Module = "github.com/gatepost/gatepost"

// Row says what the packages of one room may import. Paths of ours are relative to the module.
// A path stands for the package alone, with "/..." behind it for everything below as well.
type Row struct {
	Room       string   // the longest room that begins a package's path is its room
	May        []string // of ours, besides the room itself
	Not        []string // exceptions from May
	Tests      []string // of ours, what test files may import besides
	Never      []string // of others, not imported
	NeverReach []string // of others, not even through something else
}

// drivers talk to a database, to Redis or to Kafka: they belong into store and mq.
var drivers = []string{
	"gorm.io", "github.com/glebarez", "github.com/go-sql-driver", "github.com/mattn/go-sqlite3", "modernc.org/sqlite",
	"github.com/ncruces/go-sqlite3", "github.com/redis/go-redis", "github.com/IBM/sarama", "github.com/twmb/franz-go",
}

// registering drivers put a name into database/sql when they are linked: the SDK lives in other people's programs, which link their own.
var registering = []string{
	"github.com/go-sql-driver", "github.com/mattn/go-sqlite3", "modernc.org/sqlite", "github.com/glebarez",
	"github.com/ncruces/go-sqlite3/driver", "gorm.io",
}

// Rows is the table of rooms. Nobody has cmd or test among what he may import.
func Rows() []Row {
	return []Row{
		{Room: "idl", NeverReach: drivers, Never: []string{"database/sql"}},
		{
			Room: "gate", May: []string{"idl/..."},
			Never: []string{"database/sql"}, NeverReach: append([]string{"github.com/cloudwego/hertz", "github.com/pressly/goose"}, drivers...),
		},
		{
			Room: "logic", May: []string{"idl/...", "store", "mq"}, Not: []string{"idl/wire"},
			Tests: []string{"store/...", "migrations"},
			Never: []string{"database/sql"}, NeverReach: append([]string{"github.com/pressly/goose"}, drivers...),
		},
		{Room: "store", May: []string{"migrations"}, NeverReach: []string{"github.com/cloudwego/kitex", "github.com/IBM/sarama"}},
		{Room: "mq", May: []string{"idl/event"}, NeverReach: []string{"github.com/cloudwego/kitex", "gorm.io", "github.com/redis/go-redis"}},
		{
			Room: "sdk", May: []string{"idl/..."}, Not: []string{"idl/gen/gatepb/...", "idl/gen/logicpb/..."},
			Never: []string{"database/sql"}, NeverReach: append([]string{"github.com/cloudwego/kitex", "github.com/redis/go-redis"}, registering...),
		},
		{
			Room: "sdk/go/appserver", May: []string{"idl/...", "sdk/..."},
			NeverReach: append([]string{"github.com/cloudwego/kitex"}, registering...), // its clients log to the standard error of their host
		},
		{Room: "migrations", NeverReach: drivers},
		{
			Room: "app", May: []string{"idl/...", "gate/...", "logic/...", "store/...", "mq/...", "sdk/...", "migrations", "audit/..."},
		},
		{Room: "audit", May: []string{"sdk/...", "idl/...", "audit/platform"}, Never: []string{"database/sql"}, NeverReach: []string{"github.com/redis/go-redis", "gorm.io"}},
		{Room: "audit/platform", NeverReach: []string{"github.com/redis/go-redis", "gorm.io"}},
		{Room: "audit/limit", May: []string{"idl/...", "migrations"}, NeverReach: []string{"github.com/redis/go-redis", "gorm.io", "github.com/cloudwego/kitex"}},
		{Room: "cmd", May: []string{"app/...", "audit/...", "sdk/...", "idl/..."}},
		{Room: "test", May: []string{"audit/...", "sdk/...", "idl/..."}},
	}
}
