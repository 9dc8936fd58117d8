//! Engine.IO, Socket.IO, rooms, presence and the bus between nodes.
