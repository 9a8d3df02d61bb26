package apprpc_test

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/bytedance/gopkg/cloud/metainfo"
	"github.com/cloudwego/kitex/client"
	"github.com/cloudwego/kitex/pkg/kerrors"
	"github.com/cloudwego/kitex/pkg/transmeta"
	"github.com/cloudwego/kitex/transport"

	"github.com/gatepost/gatepost/idl/gen/appserverpb"
	"github.com/gatepost/gatepost/idl/gen/appserverpb/appserver"
	"github.com/gatepost/gatepost/logic"
)

func TestKitexClientOverTTHeader(t *testing.T) {
	w := newWorld(t)
	c, err := appserver.NewClient("appserver", client.WithHostPorts(w.address), client.WithTransportProtocol(transport.TTHeader),
		client.WithMetaHandler(transmeta.ClientTTHeaderHandler), client.WithMetaHandler(transmeta.MetainfoClientHandler),
		client.WithRPCTimeout(10*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	if closer, ok := c.(io.Closer); ok {
		t.Cleanup(func() {
			if err := closer.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	key, _ := w.key("d", logic.RightPush)
	ctx := metainfo.WithValue(context.Background(), "AUTHORIZATION", "Bearer "+key)
	push := &appserverpb.PushRequest{ClientMsgId: newID(t), Uids: []string{"bob", "carol"}, Content: []byte("hello")}
	var res *appserverpb.PushResponse
	eventually(t, func() bool { // until the server serves
		res, err = c.Push(ctx, push)
		return err == nil
	})
	if len(res.Results) != 2 || res.Results[1].Outcome != appserverpb.PushOutcome_PUSH_ACCEPTED || res.Results[1].Uid != "carol" {
		t.Errorf("got %v", res)
	}
	refused := func(want int32, ctx context.Context, req *appserverpb.PushRequest) {
		t.Helper()
		_, err := c.Push(ctx, req)
		biz, ok := kerrors.FromBizStatusError(err)
		if !ok || biz.BizStatusCode() != want || biz.BizMessage() == "" {
			t.Errorf("got %v, want a business error with %d", err, want)
		}
	}
	refused(16, context.Background(), push)
	refused(16, metainfo.WithPersistentValue(context.Background(), "AUTHORIZATION", "Bearer "+strings.Replace(key, ".", "x", 1)), push)
	refused(3, ctx, &appserverpb.PushRequest{})
	refused(7, ctx, &appserverpb.PushRequest{Domain: "e", ClientMsgId: newID(t), Uids: []string{"bob"}})
	push.Content = make([]byte, 600<<10)
	if _, err := c.Push(ctx, push); err == nil {
		t.Error("a frame above the bound was taken")
	}
	push.Content = nil
	if _, err := c.Push(ctx, push); err != nil {
		t.Errorf("after it: %v", err)
	}
}
