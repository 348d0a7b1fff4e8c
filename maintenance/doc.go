// Package maintenance looks after what the store holds: it collects garbage,
// verifies and repairs, prunes by policy, and knows the chains.
package maintenance
