package postgres

// BeforeCommit has f called before each COMMIT is sent.
func (s *Store) BeforeCommit(f func()) { s.beforeCommit = f }
