from feast import Entity, ValueType

buyer = Entity(name="buyer", join_keys=["buyer_id"], value_type=ValueType.STRING, tags={"pii": "true"})
place = Entity(name="place", join_keys=["place_id"], value_type=ValueType.INT64)
