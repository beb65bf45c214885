// Package sshagent is a small ssh-agent: it signs with the private keys it was given, on a socket that only its owner can open.
//
// Make one with [New], then [Agent.Run] it. Point SSH_AUTH_SOCK at the socket, and OpenSSH, node's sshpk-agent and this module's own
// clients find the keys. Clients may list keys and have them sign; they can neither add, remove nor read them.
//
// Stability: experimental.
package sshagent
