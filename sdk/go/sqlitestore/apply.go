package sqlitestore

import gatepost "github.com/gatepost/gatepost/sdk/go"

// apply writes c in the order of its fields.
func (s *Store) apply(c *gatepost.Changes) error {
	steps := []func(*gatepost.Changes) error{s.applyIdentity, s.applyOutbox, s.applyMarks, s.applyReceived, s.applySeen}
	for _, step := range steps {
		if err := step(c); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) applyIdentity(c *gatepost.Changes) error {
	if id := c.Identity; id != nil {
		if err := s.exec(`INSERT OR REPLACE INTO identity (one, domain, uid, device, installation, login_counter, stream,
			uplink_stream, uplink_seq) VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?)`, id.User.Domain, id.User.UID, int64(id.Device), id.Installation[:],
			int64(id.LoginCounter), int64(id.Stream), int64(id.UplinkStream), int64(id.UplinkSeq)); err != nil {
			return err
		}
	}
	for _, to := range c.DeleteTargets {
		if err := s.exec("DELETE FROM target WHERE domain = ? AND uid = ?", to.Domain, to.UID); err != nil {
			return err
		}
	}
	for _, t := range c.PutTargets {
		if err := s.exec("INSERT OR REPLACE INTO target VALUES (?, ?, ?, ?, ?)", t.To.Domain, t.To.UID,
			int64(t.Stream), int64(t.LastSeq), nanos(t.LastUsed)); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) applyOutbox(c *gatepost.Changes) error {
	for _, e := range c.PutOutbox {
		if err := s.exec(`INSERT OR REPLACE INTO outbox (number, client_msg_id, domain, uid, stream, target_seq, type, content,
			created_at, ttl, kind, replace_key, traceparent, sent, receipt, copy_stream, copy_seq)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, int64(e.Number), e.ClientMsgID[:], e.To.Domain, e.To.UID,
			int64(e.Stream), int64(e.TargetSeq), e.Type, e.Content, nanos(e.CreatedAt), int64(e.TTL),
			int64(e.Kind), e.ReplaceKey, e.Traceparent, bit(e.Sent), bit(e.Receipt), int64(e.CopyStream), int64(e.CopySeq)); err != nil {
			return err
		}
	}
	if err := s.forEach("UPDATE outbox SET sent = 1 WHERE number = ?", c.SetSent); err != nil {
		return err
	}
	for _, o := range c.SetOutcomes {
		if err := s.exec(`UPDATE outbox SET settled = 1, content = x'', msg_id = ?, duplicate = ?, code = ?, reason = ?, restored = ?,
			replaced = ? WHERE number = ?`, int64(o.Outcome.MsgID), bit(o.Outcome.Duplicate), int64(o.Outcome.Code), o.Outcome.Reason,
			bit(o.Outcome.Restored), bit(o.Outcome.Replaced), int64(o.Number)); err != nil {
			return err
		}
	}
	return s.forEach("DELETE FROM outbox WHERE number = ?", c.DeleteOutbox)
}

func (s *Store) applyMarks(c *gatepost.Changes) error {
	for _, k := range c.DeleteMarks {
		if err := s.exec("DELETE FROM mark WHERE domain = ? AND uid = ? AND stream = ? AND target = ?",
			k.From.Domain, k.From.UID, int64(k.Stream), k.Target); err != nil {
			return err
		}
	}
	for _, m := range c.PutMarks {
		if err := s.exec("INSERT OR REPLACE INTO mark VALUES (?, ?, ?, ?, ?, ?, ?)", m.Key.From.Domain, m.Key.From.UID,
			int64(m.Key.Stream), m.Key.Target, int64(m.High), encodeGaps(m.Gaps), nanos(m.LastUsed)); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) applyReceived(c *gatepost.Changes) error {
	for _, r := range c.PutReceived {
		m := &r.Message
		if err := s.exec(`INSERT OR REPLACE INTO received (number, shown, msg_id, domain, uid, device, client_msg_id, type, content,
			created_at, expires_at, stream, target_seq, late, kind, receipt, to_domain, to_uid)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			int64(r.Number), bit(r.Shown), int64(m.MsgID), m.From.Domain, m.From.UID, int64(m.FromDevice), m.ClientMsgID[:],
			m.Type, m.Content, nanos(m.CreatedAt), nanos(m.ExpiresAt), int64(m.Stream), int64(m.TargetSeq), bit(m.Late),
			int64(m.Kind), bit(m.Receipt), m.To.Domain, m.To.UID); err != nil {
			return err
		}
	}
	if err := s.forEach(`UPDATE received SET shown = 1, domain = '', uid = '', device = 0, client_msg_id = x'', type = '',
		content = x'', created_at = 0, expires_at = 0, stream = 0, target_seq = 0, late = 0, kind = 0,
		to_domain = '', to_uid = '' WHERE number = ?`, c.SetShown); err != nil {
		return err
	}
	return s.forEach("DELETE FROM received WHERE number = ?", c.DeleteReceived)
}

func (s *Store) applySeen(c *gatepost.Changes) error {
	for _, id := range c.PutSeen {
		if err := s.exec("INSERT OR REPLACE INTO seen (number, domain, uid, client_msg_id, kind) VALUES (?, ?, ?, ?, ?)",
			int64(id.Number), id.From.Domain, id.From.UID, id.ID[:], int64(id.Kind)); err != nil {
			return err
		}
	}
	return s.forEach("DELETE FROM seen WHERE number = ?", c.DeleteSeen)
}

// forEach runs sql for each number.
func (s *Store) forEach(sql string, numbers []uint64) error {
	for _, n := range numbers {
		if err := s.exec(sql, int64(n)); err != nil {
			return err
		}
	}
	return nil
}

func bit(b bool) int64 {
	if b {
		return 1
	}
	return 0
}
