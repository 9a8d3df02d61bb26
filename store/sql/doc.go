// Package sql keeps inboxes, device classes, node numbers and app keys in a SQL database: MySQL 8, MariaDB 10.6 and later, or SQLite.
//
// DB implements logic's ports Inbox, Devices, Nodes and Sweeper; DB.AppKeys the credentials of app-servers.
// Everything that the hot path runs is a statement kept prepared in a few row counts, in this package's own words; the rest goes through gorm.
// A transaction that lost a deadlock or a lock wait is run again a few times. Errors that say nothing about the data wrap store.ErrUnavailable;
// what remains blames a row of the call.
//
// Locks are taken in one order: device before device_login before device_mask, inbox before device_mask, never inbox and device in one transaction;
// rows of the inbox in the order of their ids. Only a retirement holds a mask, shared, before it removes rows. Isolation is READ COMMITTED.
package sql
