# This is a generated file! Please edit source .ksy file and use kaitai-struct-compiler to rebuild
# type: ignore

import kaitaistruct
from kaitaistruct import KaitaiStruct, KaitaiStream, BytesIO
from enum import IntEnum


if getattr(kaitaistruct, 'API_VERSION', (0, 9)) < (0, 11):
    raise Exception("Incompatible Kaitai Struct Python API: 0.11 or later is required, but you have %s" % (kaitaistruct.__version__))

class EmmV4Journal(KaitaiStruct):
    """One file of a memory's journal: a header and then records, each a multiple of 8 bytes. Records of types write,
    unlearn, forget, expand and parameters form a batch that the following commit closes; marks and seals stand between.
    
    .. seealso::
       spec/emm-v4.md section 4
    """

    class RecordType(IntEnum):
        write = 1
        unlearn = 2
        forget = 3
        expand = 4
        parameters = 5
        commit = 6
        mark = 7
        seal = 8
    def __init__(self, _io, _parent=None, _root=None):
        super(EmmV4Journal, self).__init__(_io)
        self._parent = _parent
        self._root = _root or self
        self._read()

    def _read(self):
        self.header = EmmV4Journal.SegmentHeader(self._io, self, self._root)
        if self.first.is_framed:
            pass
            self.records = []
            i = 0
            while True:
                _ = EmmV4Journal.Record((128 if i == 0 else self.records[i - 1].end), self._io, self, self._root)
                self.records.append(_)
                if (not (_.next.is_framed)):
                    break
                i += 1

        self.tail = self._io.read_bytes_full()


    def _fetch_instances(self):
        pass
        self.header._fetch_instances()
        if self.first.is_framed:
            pass
            for i in range(len(self.records)):
                pass
                self.records[i]._fetch_instances()


        _ = self.first
        if hasattr(self, '_m_first'):
            pass
            self._m_first._fetch_instances()


    class CommitBody(KaitaiStruct):
        """Closes a batch (J-11)."""
        def __init__(self, _io, _parent=None, _root=None):
            super(EmmV4Journal.CommitBody, self).__init__(_io)
            self._parent = _parent
            self._root = _root
            self._read()

        def _read(self):
            self.commit = EmmV4Journal.CommitPayload(self._io, self, self._root)
            self.rest = self._io.read_bytes_full()
            _ = self.rest
            if not len(_) == 0:
                raise kaitaistruct.ValidationExprError(self.rest, self._io, u"/types/commit_body/seq/1")


        def _fetch_instances(self):
            pass
            self.commit._fetch_instances()


    class CommitPayload(KaitaiStruct):
        """56 bytes (J-16)."""
        def __init__(self, _io, _parent=None, _root=None):
            super(EmmV4Journal.CommitPayload, self).__init__(_io)
            self._parent = _parent
            self._root = _root
            self._read()

        def _read(self):
            self.time_us = self._io.read_s8le()
            self.n_records = self._io.read_u4le()
            if not self.n_records >= 1:
                raise kaitaistruct.ValidationLessThanError(1, self.n_records, self._io, u"/types/commit_payload/seq/1")
            self.n_pairs = self._io.read_u4le()
            self.surprise = self._io.read_f4le()
            if not self.surprise >= 0:
                raise kaitaistruct.ValidationLessThanError(0, self.surprise, self._io, u"/types/commit_payload/seq/3")
            if not self.surprise <= 3.4028234663852886E+38:
                raise kaitaistruct.ValidationGreaterThanError(3.4028234663852886E+38, self.surprise, self._io, u"/types/commit_payload/seq/3")
            self.reserved = self._io.read_bytes(4)
            _ = self.reserved
            if not KaitaiStream.byte_array_max(_) == 0:
                raise kaitaistruct.ValidationExprError(self.reserved, self._io, u"/types/commit_payload/seq/4")
            self.chain = self._io.read_bytes(32)


        def _fetch_instances(self):
            pass


    class DecayGate(KaitaiStruct):
        def __init__(self, _io, _parent=None, _root=None):
            super(EmmV4Journal.DecayGate, self).__init__(_io)
            self._parent = _parent
            self._root = _root
            self._read()

        def _read(self):
            self.alpha = self._io.read_f4le()
            _ = self.alpha
            if not  ((_ > 0.0) and (_ <= 1.0)) :
                raise kaitaistruct.ValidationExprError(self.alpha, self._io, u"/types/decay_gate/seq/0")


        def _fetch_instances(self):
            pass


    class EmptyBody(KaitaiStruct):
        """J-11, marks and seals have no payload."""
        def __init__(self, _io, _parent=None, _root=None):
            super(EmmV4Journal.EmptyBody, self).__init__(_io)
            self._parent = _parent
            self._root = _root
            self._read()

        def _read(self):
            self.rest = self._io.read_bytes_full()
            _ = self.rest
            if not len(_) == 0:
                raise kaitaistruct.ValidationExprError(self.rest, self._io, u"/types/empty_body/seq/0")


        def _fetch_instances(self):
            pass


    class ExpandBody(KaitaiStruct):
        """A bare expansion (A-18)."""
        def __init__(self, _io, _parent=None, _root=None):
            super(EmmV4Journal.ExpandBody, self).__init__(_io)
            self._parent = _parent
            self._root = _root
            self._read()

        def _read(self):
            self.expand = EmmV4Journal.ExpandPayload(self._io, self, self._root)
            self.rest = self._io.read_bytes_full()
            _ = self.rest
            if not len(_) == 0:
                raise kaitaistruct.ValidationExprError(self.rest, self._io, u"/types/expand_body/seq/1")


        def _fetch_instances(self):
            pass
            self.expand._fetch_instances()


    class ExpandPayload(KaitaiStruct):
        """8 bytes (J-17)."""
        def __init__(self, _io, _parent=None, _root=None):
            super(EmmV4Journal.ExpandPayload, self).__init__(_io)
            self._parent = _parent
            self._root = _root
            self._read()

        def _read(self):
            self.rank = self._io.read_u4le()
            _ = self.rank
            if not  ((_ >= 1) and (_ <= 16777216) and (_ % 16 == 0)) :
                raise kaitaistruct.ValidationExprError(self.rank, self._io, u"/types/expand_payload/seq/0")
            self.reserved = self._io.read_bytes(4)
            _ = self.reserved
            if not KaitaiStream.byte_array_max(_) == 0:
                raise kaitaistruct.ValidationExprError(self.reserved, self._io, u"/types/expand_payload/seq/1")


        def _fetch_instances(self):
            pass


    class ForgetBody(KaitaiStruct):
        """J-13, keys to make M answer nothing to; no gates, no values."""
        def __init__(self, _io, _parent=None, _root=None):
            super(EmmV4Journal.ForgetBody, self).__init__(_io)
            self._parent = _parent
            self._root = _root
            self._read()

        def _read(self):
            self.pairs = EmmV4Journal.PairsHeader(self._io, self, self._root)
            self.keys = []
            for i in range(self.pairs.n_pairs):
                self.keys.append(EmmV4Journal.Vector(self.pairs.key_dim, self._io, self, self._root))

            self.rest = self._io.read_bytes_full()
            _ = self.rest
            if not  ((len(_) == 0) and (self.pairs.dim == 0)) :
                raise kaitaistruct.ValidationExprError(self.rest, self._io, u"/types/forget_body/seq/2")


        def _fetch_instances(self):
            pass
            self.pairs._fetch_instances()
            for i in range(len(self.keys)):
                pass
                self.keys[i]._fetch_instances()



    class Frame(KaitaiStruct):
        """A look at the place where a record may start."""
        def __init__(self, offset, _io, _parent=None, _root=None):
            super(EmmV4Journal.Frame, self).__init__(_io)
            self._parent = _parent
            self._root = _root
            self.offset = offset
            self._read()

        def _read(self):
            if self.offset + 32 <= self._io.size():
                pass
                self.header = EmmV4Journal.RecordHeader(self._io, self, self._root)



        def _fetch_instances(self):
            pass
            if self.offset + 32 <= self._io.size():
                pass
                self.header._fetch_instances()


        @property
        def is_framed(self):
            """J-6, a record starts here and ends within the file; S-3, it is at most 16 MiB."""
            if hasattr(self, '_m_is_framed'):
                return self._m_is_framed

            self._m_is_framed =  ((self.offset + 32 <= self._io.size()) and (self.header.magic == 1380601157) and (self.header.record_bytes <= 16777216) and (self.offset + self.header.record_bytes <= self._io.size())) 
            return getattr(self, '_m_is_framed', None)


    class PairsHeader(KaitaiStruct):
        """16 bytes (J-13)."""
        def __init__(self, _io, _parent=None, _root=None):
            super(EmmV4Journal.PairsHeader, self).__init__(_io)
            self._parent = _parent
            self._root = _root
            self._read()

        def _read(self):
            self.n_pairs = self._io.read_u4le()
            if not self.n_pairs >= 1:
                raise kaitaistruct.ValidationLessThanError(1, self.n_pairs, self._io, u"/types/pairs_header/seq/0")
            self.key_dim = self._io.read_u4le()
            if not self.key_dim >= 1:
                raise kaitaistruct.ValidationLessThanError(1, self.key_dim, self._io, u"/types/pairs_header/seq/1")
            if not self.key_dim <= 16777216:
                raise kaitaistruct.ValidationGreaterThanError(16777216, self.key_dim, self._io, u"/types/pairs_header/seq/1")
            self.dim = self._io.read_u4le()
            if not self.dim <= 16777216:
                raise kaitaistruct.ValidationGreaterThanError(16777216, self.dim, self._io, u"/types/pairs_header/seq/2")
            self.rank = self._io.read_u4le()
            _ = self.rank
            if not  ((_ >= 1) and (_ <= 16777216) and (_ % 16 == 0)) :
                raise kaitaistruct.ValidationExprError(self.rank, self._io, u"/types/pairs_header/seq/3")


        def _fetch_instances(self):
            pass


    class ParametersBody(KaitaiStruct):
        def __init__(self, _io, _parent=None, _root=None):
            super(EmmV4Journal.ParametersBody, self).__init__(_io)
            self._parent = _parent
            self._root = _root
            self._read()

        def _read(self):
            self.parameters = EmmV4Journal.ParametersPayload(self._io, self, self._root)
            self.rest = self._io.read_bytes_full()
            _ = self.rest
            if not len(_) == 0:
                raise kaitaistruct.ValidationExprError(self.rest, self._io, u"/types/parameters_body/seq/1")


        def _fetch_instances(self):
            pass
            self.parameters._fetch_instances()


    class ParametersPayload(KaitaiStruct):
        """8 bytes (J-17)."""
        def __init__(self, _io, _parent=None, _root=None):
            super(EmmV4Journal.ParametersPayload, self).__init__(_io)
            self._parent = _parent
            self._root = _root
            self._read()

        def _read(self):
            self.expand_at = self._io.read_f4le()
            if not self.expand_at >= 0:
                raise kaitaistruct.ValidationLessThanError(0, self.expand_at, self._io, u"/types/parameters_payload/seq/0")
            if not self.expand_at <= 1:
                raise kaitaistruct.ValidationGreaterThanError(1, self.expand_at, self._io, u"/types/parameters_payload/seq/0")
            self.reserved = self._io.read_bytes(4)
            _ = self.reserved
            if not KaitaiStream.byte_array_max(_) == 0:
                raise kaitaistruct.ValidationExprError(self.reserved, self._io, u"/types/parameters_payload/seq/1")


        def _fetch_instances(self):
            pass


    class Payload(KaitaiStruct):
        def __init__(self, type, _io, _parent=None, _root=None):
            super(EmmV4Journal.Payload, self).__init__(_io)
            self._parent = _parent
            self._root = _root
            self.type = type
            self._read()

        def _read(self):
            pass


        def _fetch_instances(self):
            pass
            _ = self.body
            if hasattr(self, '_m_body'):
                pass
                _on = self.type
                if _on == EmmV4Journal.RecordType.commit:
                    pass
                    self._m_body._fetch_instances()
                elif _on == EmmV4Journal.RecordType.expand:
                    pass
                    self._m_body._fetch_instances()
                elif _on == EmmV4Journal.RecordType.forget:
                    pass
                    self._m_body._fetch_instances()
                elif _on == EmmV4Journal.RecordType.mark:
                    pass
                    self._m_body._fetch_instances()
                elif _on == EmmV4Journal.RecordType.parameters:
                    pass
                    self._m_body._fetch_instances()
                elif _on == EmmV4Journal.RecordType.seal:
                    pass
                    self._m_body._fetch_instances()
                elif _on == EmmV4Journal.RecordType.unlearn:
                    pass
                    self._m_body._fetch_instances()
                elif _on == EmmV4Journal.RecordType.write:
                    pass
                    self._m_body._fetch_instances()
                else:
                    pass

            _ = self.raw
            if hasattr(self, '_m_raw'):
                pass


        @property
        def body(self):
            """The payload by its type. Each body ends with `rest`, which is empty, so the length is the one that it gives."""
            if hasattr(self, '_m_body'):
                return self._m_body

            _pos = self._io.pos()
            self._io.seek(0)
            _on = self.type
            if _on == EmmV4Journal.RecordType.commit:
                pass
                self._raw__m_body = self._io.read_bytes_full()
                _io__raw__m_body = KaitaiStream(BytesIO(self._raw__m_body))
                self._m_body = EmmV4Journal.CommitBody(_io__raw__m_body, self, self._root)
            elif _on == EmmV4Journal.RecordType.expand:
                pass
                self._raw__m_body = self._io.read_bytes_full()
                _io__raw__m_body = KaitaiStream(BytesIO(self._raw__m_body))
                self._m_body = EmmV4Journal.ExpandBody(_io__raw__m_body, self, self._root)
            elif _on == EmmV4Journal.RecordType.forget:
                pass
                self._raw__m_body = self._io.read_bytes_full()
                _io__raw__m_body = KaitaiStream(BytesIO(self._raw__m_body))
                self._m_body = EmmV4Journal.ForgetBody(_io__raw__m_body, self, self._root)
            elif _on == EmmV4Journal.RecordType.mark:
                pass
                self._raw__m_body = self._io.read_bytes_full()
                _io__raw__m_body = KaitaiStream(BytesIO(self._raw__m_body))
                self._m_body = EmmV4Journal.EmptyBody(_io__raw__m_body, self, self._root)
            elif _on == EmmV4Journal.RecordType.parameters:
                pass
                self._raw__m_body = self._io.read_bytes_full()
                _io__raw__m_body = KaitaiStream(BytesIO(self._raw__m_body))
                self._m_body = EmmV4Journal.ParametersBody(_io__raw__m_body, self, self._root)
            elif _on == EmmV4Journal.RecordType.seal:
                pass
                self._raw__m_body = self._io.read_bytes_full()
                _io__raw__m_body = KaitaiStream(BytesIO(self._raw__m_body))
                self._m_body = EmmV4Journal.EmptyBody(_io__raw__m_body, self, self._root)
            elif _on == EmmV4Journal.RecordType.unlearn:
                pass
                self._raw__m_body = self._io.read_bytes_full()
                _io__raw__m_body = KaitaiStream(BytesIO(self._raw__m_body))
                self._m_body = EmmV4Journal.UnlearnBody(_io__raw__m_body, self, self._root)
            elif _on == EmmV4Journal.RecordType.write:
                pass
                self._raw__m_body = self._io.read_bytes_full()
                _io__raw__m_body = KaitaiStream(BytesIO(self._raw__m_body))
                self._m_body = EmmV4Journal.WriteBody(_io__raw__m_body, self, self._root)
            else:
                pass
                self._m_body = self._io.read_bytes_full()
            self._io.seek(_pos)
            return getattr(self, '_m_body', None)

        @property
        def raw(self):
            """The bytes that J-10 and J-12 cover."""
            if hasattr(self, '_m_raw'):
                return self._m_raw

            _pos = self._io.pos()
            self._io.seek(0)
            self._m_raw = self._io.read_bytes_full()
            self._io.seek(_pos)
            return getattr(self, '_m_raw', None)


    class Record(KaitaiStruct):
        def __init__(self, offset, _io, _parent=None, _root=None):
            super(EmmV4Journal.Record, self).__init__(_io)
            self._parent = _parent
            self._root = _root
            self.offset = offset
            self._read()

        def _read(self):
            self.header = EmmV4Journal.RecordHeader(self._io, self, self._root)
            self._raw_payload = self._io.read_bytes(self.header.length)
            _io__raw_payload = KaitaiStream(BytesIO(self._raw_payload))
            self.payload = EmmV4Journal.Payload(self.header.type, _io__raw_payload, self, self._root)
            self.padding = self._io.read_bytes(self.header.padding_bytes)
            self.crc32 = self._io.read_u4le()


        def _fetch_instances(self):
            pass
            self.header._fetch_instances()
            self.payload._fetch_instances()
            _ = self.next
            if hasattr(self, '_m_next'):
                pass
                self._m_next._fetch_instances()


        @property
        def end(self):
            """Where the next record starts."""
            if hasattr(self, '_m_end'):
                return self._m_end

            self._m_end = self.offset + self.header.record_bytes
            return getattr(self, '_m_end', None)

        @property
        def next(self):
            if hasattr(self, '_m_next'):
                return self._m_next

            _pos = self._io.pos()
            self._io.seek(self.end)
            self._m_next = EmmV4Journal.Frame(self.end, self._io, self, self._root)
            self._io.seek(_pos)
            return getattr(self, '_m_next', None)


    class RecordHeader(KaitaiStruct):
        """32 bytes. Nothing is validated here: a torn record's header may hold anything, and only its CRC (J-7) tells. Once
        that agrees, a reader refuses a header that is not `is_known` and not `is_consistent`.
        """
        def __init__(self, _io, _parent=None, _root=None):
            super(EmmV4Journal.RecordHeader, self).__init__(_io)
            self._parent = _parent
            self._root = _root
            self._read()

        def _read(self):
            self.magic = self._io.read_u4le()
            self.type = KaitaiStream.resolve_enum(EmmV4Journal.RecordType, self._io.read_u2le())
            self.flags = self._io.read_u2le()
            self.lsn = self._io.read_u8le()
            self.synced_through = self._io.read_u8le()
            self.length = self._io.read_u4le()
            self.crc32 = self._io.read_u4le()


        def _fetch_instances(self):
            pass

        @property
        def is_between(self):
            """J-11, stands between batches."""
            if hasattr(self, '_m_is_between'):
                return self._m_is_between

            self._m_is_between =  ((self.type == EmmV4Journal.RecordType.mark) or (self.type == EmmV4Journal.RecordType.seal)) 
            return getattr(self, '_m_is_between', None)

        @property
        def is_consistent(self):
            """J-9."""
            if hasattr(self, '_m_is_consistent'):
                return self._m_is_consistent

            self._m_is_consistent =  (( ((self.is_between) or (self.lsn >= 1)) ) and (self.synced_through <= self.lsn)) 
            return getattr(self, '_m_is_consistent', None)

        @property
        def is_known(self):
            """J-8."""
            if hasattr(self, '_m_is_known'):
                return self._m_is_known

            self._m_is_known =  ((self.flags == 0) and ( ((self.is_between) or (self.type == EmmV4Journal.RecordType.write) or (self.type == EmmV4Journal.RecordType.unlearn) or (self.type == EmmV4Journal.RecordType.forget) or (self.type == EmmV4Journal.RecordType.expand) or (self.type == EmmV4Journal.RecordType.parameters) or (self.type == EmmV4Journal.RecordType.commit)) )) 
            return getattr(self, '_m_is_known', None)

        @property
        def padding_bytes(self):
            """J-6, the least number of zeros that makes the record a multiple of 8 bytes."""
            if hasattr(self, '_m_padding_bytes'):
                return self._m_padding_bytes

            self._m_padding_bytes = (8 - (self.length + 36) % 8) % 8
            return getattr(self, '_m_padding_bytes', None)

        @property
        def record_bytes(self):
            """J-6, header, payload, zeros and trailing CRC."""
            if hasattr(self, '_m_record_bytes'):
                return self._m_record_bytes

            self._m_record_bytes = (36 + self.length) + self.padding_bytes
            return getattr(self, '_m_record_bytes', None)


    class SegmentHeader(KaitaiStruct):
        """128 bytes."""
        def __init__(self, _io, _parent=None, _root=None):
            super(EmmV4Journal.SegmentHeader, self).__init__(_io)
            self._parent = _parent
            self._root = _root
            self._read()

        def _read(self):
            self.magic = self._io.read_bytes(8)
            if not self.magic == b"\x89\x45\x4D\x4A\x0D\x0A\x1A\x0A":
                raise kaitaistruct.ValidationNotEqualError(b"\x89\x45\x4D\x4A\x0D\x0A\x1A\x0A", self.magic, self._io, u"/types/segment_header/seq/0")
            self.version_major = self._io.read_u2le()
            if not self.version_major == 4:
                raise kaitaistruct.ValidationNotEqualError(4, self.version_major, self._io, u"/types/segment_header/seq/1")
            self.version_minor = self._io.read_u2le()
            self.flags = self._io.read_u4le()
            if not self.flags == 0:
                raise kaitaistruct.ValidationNotEqualError(0, self.flags, self._io, u"/types/segment_header/seq/3")
            self.segment = self._io.read_u8le()
            if not self.segment >= 1:
                raise kaitaistruct.ValidationLessThanError(1, self.segment, self._io, u"/types/segment_header/seq/4")
            if not self.segment <= 9999999999999999:
                raise kaitaistruct.ValidationGreaterThanError(9999999999999999, self.segment, self._io, u"/types/segment_header/seq/4")
            self.first_lsn = self._io.read_u8le()
            if not self.first_lsn >= 1:
                raise kaitaistruct.ValidationLessThanError(1, self.first_lsn, self._io, u"/types/segment_header/seq/5")
            self.floor_generation = self._io.read_u8le()
            if not self.floor_generation >= 1:
                raise kaitaistruct.ValidationLessThanError(1, self.floor_generation, self._io, u"/types/segment_header/seq/6")
            self.uuid = self._io.read_bytes(16)
            self.writer_nonce = self._io.read_bytes(16)
            self.chain = self._io.read_bytes(32)
            self.previous_bytes = self._io.read_u8le()
            self.rank = self._io.read_u4le()
            _ = self.rank
            if not  ((_ >= 1) and (_ <= 16777216) and (_ % 16 == 0)) :
                raise kaitaistruct.ValidationExprError(self.rank, self._io, u"/types/segment_header/seq/11")
            self.reserved = self._io.read_bytes(8)
            _ = self.reserved
            if not KaitaiStream.byte_array_max(_) == 0:
                raise kaitaistruct.ValidationExprError(self.reserved, self._io, u"/types/segment_header/seq/12")
            self.crc32 = self._io.read_u4le()


        def _fetch_instances(self):
            pass


    class UnlearnBody(KaitaiStruct):
        """J-13, pairs to take out; no decay gates."""
        def __init__(self, _io, _parent=None, _root=None):
            super(EmmV4Journal.UnlearnBody, self).__init__(_io)
            self._parent = _parent
            self._root = _root
            self._read()

        def _read(self):
            self.pairs = EmmV4Journal.PairsHeader(self._io, self, self._root)
            self.write_gates = []
            for i in range(self.pairs.n_pairs):
                self.write_gates.append(EmmV4Journal.WriteGate(self._io, self, self._root))

            self.keys = []
            for i in range(self.pairs.n_pairs):
                self.keys.append(EmmV4Journal.Vector(self.pairs.key_dim, self._io, self, self._root))

            self.values = []
            for i in range(self.pairs.n_pairs):
                self.values.append(EmmV4Journal.Vector(self.pairs.dim, self._io, self, self._root))

            self.rest = self._io.read_bytes_full()
            _ = self.rest
            if not  ((len(_) == 0) and (self.pairs.dim >= 1)) :
                raise kaitaistruct.ValidationExprError(self.rest, self._io, u"/types/unlearn_body/seq/4")


        def _fetch_instances(self):
            pass
            self.pairs._fetch_instances()
            for i in range(len(self.write_gates)):
                pass
                self.write_gates[i]._fetch_instances()

            for i in range(len(self.keys)):
                pass
                self.keys[i]._fetch_instances()

            for i in range(len(self.values)):
                pass
                self.values[i]._fetch_instances()



    class Vector(KaitaiStruct):
        def __init__(self, n_numbers, _io, _parent=None, _root=None):
            super(EmmV4Journal.Vector, self).__init__(_io)
            self._parent = _parent
            self._root = _root
            self.n_numbers = n_numbers
            self._read()

        def _read(self):
            self.numbers = []
            for i in range(self.n_numbers):
                self.numbers.append(self._io.read_f4le())
                if not self.numbers[i] >= -1099511627776:
                    raise kaitaistruct.ValidationLessThanError(-1099511627776, self.numbers[i], self._io, u"/types/vector/seq/0")
                if not self.numbers[i] <= 1099511627776:
                    raise kaitaistruct.ValidationGreaterThanError(1099511627776, self.numbers[i], self._io, u"/types/vector/seq/0")



        def _fetch_instances(self):
            pass
            for i in range(len(self.numbers)):
                pass



    class WriteBody(KaitaiStruct):
        """J-13, pairs to absorb."""
        def __init__(self, _io, _parent=None, _root=None):
            super(EmmV4Journal.WriteBody, self).__init__(_io)
            self._parent = _parent
            self._root = _root
            self._read()

        def _read(self):
            self.pairs = EmmV4Journal.PairsHeader(self._io, self, self._root)
            self.decay_gates = []
            for i in range(self.pairs.n_pairs):
                self.decay_gates.append(EmmV4Journal.DecayGate(self._io, self, self._root))

            self.write_gates = []
            for i in range(self.pairs.n_pairs):
                self.write_gates.append(EmmV4Journal.WriteGate(self._io, self, self._root))

            self.keys = []
            for i in range(self.pairs.n_pairs):
                self.keys.append(EmmV4Journal.Vector(self.pairs.key_dim, self._io, self, self._root))

            self.values = []
            for i in range(self.pairs.n_pairs):
                self.values.append(EmmV4Journal.Vector(self.pairs.dim, self._io, self, self._root))

            self.rest = self._io.read_bytes_full()
            _ = self.rest
            if not  ((len(_) == 0) and (self.pairs.dim >= 1)) :
                raise kaitaistruct.ValidationExprError(self.rest, self._io, u"/types/write_body/seq/5")


        def _fetch_instances(self):
            pass
            self.pairs._fetch_instances()
            for i in range(len(self.decay_gates)):
                pass
                self.decay_gates[i]._fetch_instances()

            for i in range(len(self.write_gates)):
                pass
                self.write_gates[i]._fetch_instances()

            for i in range(len(self.keys)):
                pass
                self.keys[i]._fetch_instances()

            for i in range(len(self.values)):
                pass
                self.values[i]._fetch_instances()



    class WriteGate(KaitaiStruct):
        def __init__(self, _io, _parent=None, _root=None):
            super(EmmV4Journal.WriteGate, self).__init__(_io)
            self._parent = _parent
            self._root = _root
            self._read()

        def _read(self):
            self.beta = self._io.read_f4le()
            if not self.beta >= 0.0009765625:
                raise kaitaistruct.ValidationLessThanError(0.0009765625, self.beta, self._io, u"/types/write_gate/seq/0")
            if not self.beta <= 32:
                raise kaitaistruct.ValidationGreaterThanError(32, self.beta, self._io, u"/types/write_gate/seq/0")


        def _fetch_instances(self):
            pass


    @property
    def first(self):
        if hasattr(self, '_m_first'):
            return self._m_first

        _pos = self._io.pos()
        self._io.seek(128)
        self._m_first = EmmV4Journal.Frame(128, self._io, self, self._root)
        self._io.seek(_pos)
        return getattr(self, '_m_first', None)


