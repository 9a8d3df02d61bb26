// Package auth is Gatepost's own token: a JWT (HS256) that says who its bearer is, signed with one of a few keys that have ids.
//
// A ring is built once from configuration. To change the key, add the new one as current, keep the old one until its last token has
// expired, then leave it out.
package auth
