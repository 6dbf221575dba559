package postgres

// Waiting is how many operations wait for the committer of the first database.
func (s *Store) Waiting() int {
	d := s.shards[0]
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.queue)
}

// BeforeCommit has f called before each COMMIT is sent.
func (s *Store) BeforeCommit(f func()) { s.beforeCommit = f }
