package logic

import (
	"fmt"
	"unicode/utf8"

	"github.com/gatepost/gatepost/store"
)

// checkUser says what is wrong with a user's key, or nil. Both parts are UTF-8 without control characters.
func checkUser(u store.UserKey) error {
	if err := checkName("domain", u.Domain, maxDomainBytes); err != nil {
		return err
	}
	return checkName("uid", u.UID, maxUIDBytes)
}

func checkName(what, s string, most int) error {
	if s == "" || len(s) > most {
		return fmt.Errorf("a %s has 1 to %d bytes", what, most)
	}
	return checkText(what, s)
}

// checkText refuses what is not UTF-8 or holds a control character.
func checkText(what, s string) error {
	ascii := true
	for i := 0; i < len(s); i++ {
		if s[i] < 0x20 || s[i] == 0x7f {
			return fmt.Errorf("the %s holds a control character", what)
		}
		ascii = ascii && s[i] < utf8.RuneSelf
	}
	if !ascii && !utf8.ValidString(s) {
		return fmt.Errorf("the %s is not UTF-8", what)
	}
	return nil
}

// userHash spreads users over lanes (FNV-1a). The same user always has the same lane.
func userHash(u store.UserKey) uint32 {
	h := uint32(2166136261)
	for i := 0; i < len(u.Domain); i++ {
		h = (h ^ uint32(u.Domain[i])) * 16777619
	}
	h = (h ^ 0xff) * 16777619
	for i := 0; i < len(u.UID); i++ {
		h = (h ^ uint32(u.UID[i])) * 16777619
	}
	return h ^ h>>16
}
