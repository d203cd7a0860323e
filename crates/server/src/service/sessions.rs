//! This noun's service.
