package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/gatepost/gatepost/cmd/gatepost/internal/target"
	gatepost "github.com/gatepost/gatepost/sdk/go"
)

// left is the note of one run for the next about the message that it left for patience.
type left struct {
	ID   gatepost.ClientMsgID
	Text string
	At   time.Time
}

// leftFor is how long a note counts: what it tells of has expired after seven days.
const leftFor = 7 * 24 * time.Hour

func (r *run) patience() gatepost.User { return gatepost.User{Domain: r.Domain, UID: "patience"} }

func (r *run) notePath() (string, error) {
	return r.Target.StorePath(".demo", target.FileName(r.Domain)+"-patience.json")
}

func readNote(path string) (note left, there bool, err error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return left{}, false, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &note)
	}
	if err != nil {
		return left{}, false, fmt.Errorf("note of the last run: %w", err)
	}
	return note, time.Since(note.At) < leftFor, nil
}

// loginPatience brings patience online with the store that lasts over runs. The note is taken away where the message is shown.
func (r *run) loginPatience(ctx context.Context, note string, expected gatepost.ClientMsgID) (*person, error) {
	path, err := r.Target.StorePath(".demo", target.FileName(r.Domain)+"-patience.db")
	if err != nil {
		return nil, err
	}
	return r.login(ctx, r.patience(), path, func(m gatepost.Message) error {
		if m.ClientMsgID != expected {
			return nil
		}
		if err := os.Remove(note); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	})
}

func findLeft(ctx context.Context, r *run) (string, error) {
	path, err := r.notePath()
	if err != nil {
		return "", err
	}
	note, there, err := readNote(path)
	if err != nil {
		return "", err
	}
	patience, err := r.loginPatience(ctx, path, note.ID)
	if err != nil {
		return "", err
	}
	defer patience.client.Close() // not Logout: the platform goes on keeping messages for this device
	if !there {
		return "nothing yet: this is the first run on this data; patience is registered now", nil
	}
	var found gatepost.Message
	err = patience.until(ctx, "what the last run left for him", func() bool {
		for _, m := range patience.shown {
			if m.ClientMsgID == note.ID {
				found = m
				return true
			}
		}
		return false
	})
	if err != nil {
		return "", fmt.Errorf("lost: %w", err)
	}
	if string(found.Content) != note.Text {
		return "", fmt.Errorf("it came with another content: %q", found.Content)
	}
	return fmt.Sprintf("%q waited %v for patience, and came", found.Content, time.Since(note.At).Round(time.Second)), nil
}

func leave(ctx context.Context, r *run) (string, error) {
	if r.alice == nil {
		return "", errNobody
	}
	path, err := r.notePath()
	if err != nil {
		return "", err
	}
	note := left{At: time.Now(), Text: "Left on " + time.Now().Format("2 January 2006 at 15:04:05") + "."}
	results, err := r.alice.send(ctx, r.patience(), note.Text)
	if err != nil {
		return "", err
	}
	note.ID = results[0].ClientMsgID
	b, err := json.Marshal(note)
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		return "", fmt.Errorf("note for the next run: %w", err)
	}
	return fmt.Sprintf("%q was accepted for patience as message %d", note.Text, results[0].MsgID), nil
}
