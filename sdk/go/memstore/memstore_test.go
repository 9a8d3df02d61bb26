package memstore_test

import (
	"errors"
	"testing"

	gatepost "github.com/gatepost/gatepost/sdk/go"
	"github.com/gatepost/gatepost/sdk/go/memstore"
	"github.com/gatepost/gatepost/sdk/go/storetest"
)

func TestContract(t *testing.T) {
	storetest.Run(t, func(*testing.T) (gatepost.Store, func() gatepost.Store) {
		s := memstore.New()
		return s, func() gatepost.Store { return s.Copy() }
	})
}

func TestOneClientAtATime(t *testing.T) {
	s := memstore.New()
	if _, err := s.Load(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Load(); !errors.Is(err, gatepost.ErrStoreInUse) {
		t.Fatalf("second load: %v", err)
	}
}
