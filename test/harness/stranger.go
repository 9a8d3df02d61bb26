package harness

import (
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/bufbuild/protocompile"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/encoding/gzip" // a client that could read gzip says so
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
)

// Stranger is an app-server that has grpc-go and the published .proto, compiled when it starts, and nothing of ours.
// It is safe for concurrent use.
type Stranger struct {
	conn    *grpc.ClientConn
	service protoreflect.ServiceDescriptor
	key     string
}

// NewStranger calls the node for app-servers at address, with an app key. It ends with the test.
func NewStranger(t testing.TB, address, key string) *Stranger {
	t.Helper()
	source, err := os.ReadFile("../../idl/appserver.proto") // tests run in the folder of their package
	if err != nil {
		t.Fatal(err)
	}
	compiler := protocompile.Compiler{Resolver: &protocompile.SourceResolver{
		Accessor: protocompile.SourceAccessorFromMap(map[string]string{"appserver.proto": string(source)}),
	}}
	files, err := compiler.Compile(context.Background(), "appserver.proto")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	return &Stranger{conn: conn, service: files[0].Services().ByName("AppServer"), key: key}
}

// Call makes one call; request and answer are JSON without spaces, with fields named as in the .proto.
// While the node cannot be reached it waits.
func (s *Stranger) Call(ctx context.Context, method, request string) (string, error) {
	m := s.service.Methods().ByName(protoreflect.Name(method))
	in, out := dynamicpb.NewMessage(m.Input()), dynamicpb.NewMessage(m.Output())
	if err := protojson.Unmarshal([]byte(request), in); err != nil {
		return "", err
	}
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+s.key)
	if err := s.conn.Invoke(ctx, fmt.Sprintf("/%s/%s", s.service.FullName(), method), in, out, grpc.WaitForReady(true)); err != nil {
		return "", err
	}
	answer, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(out)
	return strings.ReplaceAll(string(answer), " ", ""), err // the spaces between are random by intent
}

// Content is text as a request has it.
func Content(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }
