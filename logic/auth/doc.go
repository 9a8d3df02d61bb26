// Package auth proves users at their login. A domain takes one of three:
//
//   - Authenticator: Gatepost's own token, a JWT (HS256) that says who its bearer is, signed with one of a few keys that have ids.
//     A ring of keys is built once from configuration. To change the key, add the new one as current, keep the old one until its last
//     token has expired, then leave it out.
//   - JWT: tokens that the domain's own business makes.
//   - HTTP: the domain's business is asked.
package auth
