"""What is on disk and must survive: durable files, the journal, STATE.json, the ledger."""
