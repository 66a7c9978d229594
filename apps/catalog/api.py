"""Models, versions, adapters, engine images and performance profiles over REST."""

from typing import ClassVar

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.selectors import project_wanted
from apps.api.problems import Problem, field_problem
from apps.api.responses import created, gone
from apps.api.schema import empty, page_of
from apps.api.views import MeridianView, Rights, Tenancy
from apps.catalog import selectors, services
from apps.catalog.models import ModelVersion
from apps.catalog.serializers import (
    AdapterCreateSerializer,
    AdapterSerializer,
    CurveSerializer,
    EngineImageCreateSerializer,
    EngineImageFilters,
    EngineImageSerializer,
    ModelCreateSerializer,
    ModelFilters,
    ModelSerializer,
    ModelVersionCreateSerializer,
    ModelVersionSerializer,
    ProfileCreateSerializer,
    ProfileFilters,
    ProfileSerializer,
    SizingSerializer,
)
from apps.catalog.sizing import curve_of, curve_sized
from apps.fleet.selectors import fact_get, instance_types
from controlplane.sizing import Goals

ROOT = "/api/v1"


@extend_schema(tags=["catalog"])
class ModelsView(MeridianView):
    rights: ClassVar[Rights] = {"GET": "read", "POST": "deploy"}
    tenancy = Tenancy.PROJECT
    filters = ModelFilters
    paged = True

    @extend_schema(operation_id="models_list", responses=page_of(ModelSerializer))
    def get(self, request: Request) -> Response:
        return self.page(selectors.models(actor=self.actor, **self.filter_values), ModelSerializer)

    @extend_schema(
        operation_id="models_create", request=ModelCreateSerializer, responses={201: ModelSerializer}
    )
    def post(self, request: Request) -> Response:
        made = services.model_create(
            actor=self.actor, project_id=project_wanted(self.actor), **self.document(ModelCreateSerializer)
        )
        return created(ModelSerializer(made).data, location=f"{ROOT}/models/{made.name}")


@extend_schema(tags=["catalog"])
class ModelView(MeridianView):
    rights: ClassVar[Rights] = {"GET": "read", "DELETE": "deploy"}
    tenancy = Tenancy.PROJECT
    etagged = False

    @extend_schema(operation_id="models_get", responses=ModelSerializer)
    def get(self, request: Request, name: str) -> Response:
        return Response(ModelSerializer(selectors.model_get(actor=self.actor, name=name)).data)

    @extend_schema(operation_id="models_delete", responses={204: empty("Deleted")})
    def delete(self, request: Request, name: str) -> Response:
        services.model_delete(actor=self.actor, model=selectors.model_get(actor=self.actor, name=name))
        return gone()


@extend_schema(tags=["catalog"])
class ModelVersionsView(MeridianView):
    rights: ClassVar[Rights] = {"GET": "read", "POST": "deploy"}
    tenancy = Tenancy.PROJECT
    paged = True

    @extend_schema(operation_id="model_versions_list", responses=page_of(ModelVersionSerializer))
    def get(self, request: Request, name: str) -> Response:
        model = selectors.model_get(actor=self.actor, name=name)
        return self.page(selectors.model_versions(model=model), ModelVersionSerializer)

    @extend_schema(
        operation_id="model_versions_create",
        request=ModelVersionCreateSerializer,
        responses={201: ModelVersionSerializer},
    )
    def post(self, request: Request, name: str) -> Response:
        model = selectors.model_get(actor=self.actor, name=name)
        document = self.document(ModelVersionCreateSerializer)
        weight_format = document.pop("format")
        made = services.model_version_create(
            actor=self.actor, model=model, weight_format=weight_format, **document
        )
        location = f"{ROOT}/models/{model.name}/versions/{made.version}"
        return created(ModelVersionSerializer(made).data, location=location)


class OfVersionView(MeridianView):
    """What lies under one version of one model."""

    tenancy = Tenancy.PROJECT
    etagged = False

    def version(self, name: str, version: str) -> ModelVersion:
        return selectors.model_version_get(actor=self.actor, model=name, version=version)


@extend_schema(tags=["catalog"])
class ModelVersionView(OfVersionView):
    rights: ClassVar[Rights] = {"GET": "read", "DELETE": "deploy"}

    @extend_schema(operation_id="model_versions_get", responses=ModelVersionSerializer)
    def get(self, request: Request, name: str, version: str) -> Response:
        return Response(ModelVersionSerializer(self.version(name, version)).data)

    @extend_schema(operation_id="model_versions_delete", responses={204: empty("Deleted")})
    def delete(self, request: Request, name: str, version: str) -> Response:
        services.model_version_delete(actor=self.actor, model_version=self.version(name, version))
        return gone()


@extend_schema(tags=["catalog"])
class AdaptersView(OfVersionView):
    rights: ClassVar[Rights] = {"GET": "read", "POST": "deploy"}
    paged = True

    @extend_schema(operation_id="adapters_list", responses=page_of(AdapterSerializer))
    def get(self, request: Request, name: str, version: str) -> Response:
        found = selectors.adapters(model_version=self.version(name, version))
        return self.page(found, AdapterSerializer)

    @extend_schema(
        operation_id="adapters_create", request=AdapterCreateSerializer, responses={201: AdapterSerializer}
    )
    def post(self, request: Request, name: str, version: str) -> Response:
        made = services.adapter_create(
            actor=self.actor,
            model_version=self.version(name, version),
            **self.document(AdapterCreateSerializer),
        )
        location = f"{ROOT}/models/{name}/versions/{version}/adapters/{made.name}"
        return created(AdapterSerializer(made).data, location=location)


@extend_schema(tags=["catalog"])
class AdapterView(OfVersionView):
    rights: ClassVar[Rights] = {"GET": "read", "DELETE": "deploy"}

    @extend_schema(operation_id="adapters_get", responses=AdapterSerializer)
    def get(self, request: Request, name: str, version: str, adapter: str) -> Response:
        found = selectors.adapter_get(model_version=self.version(name, version), name=adapter)
        return Response(AdapterSerializer(found).data)

    @extend_schema(operation_id="adapters_delete", responses={204: empty("Deleted")})
    def delete(self, request: Request, name: str, version: str, adapter: str) -> Response:
        found = selectors.adapter_get(model_version=self.version(name, version), name=adapter)
        services.adapter_delete(actor=self.actor, adapter=found)
        return gone()


@extend_schema(tags=["catalog"])
class EngineImagesView(MeridianView):
    rights: ClassVar[Rights] = {"GET": "read", "POST": "admin"}
    tenancy = Tenancy.SHARED
    filters = EngineImageFilters
    paged = True

    @extend_schema(operation_id="engine_images_list", responses=page_of(EngineImageSerializer))
    def get(self, request: Request) -> Response:
        return self.page(selectors.engine_images(**self.filter_values), EngineImageSerializer)

    @extend_schema(
        operation_id="engine_images_create",
        request=EngineImageCreateSerializer,
        responses={201: EngineImageSerializer},
    )
    def post(self, request: Request) -> Response:
        made = services.engine_image_create(actor=self.actor, **self.document(EngineImageCreateSerializer))
        return created(EngineImageSerializer(made).data, location=f"{ROOT}/engine-images/{made.pk}")


@extend_schema(tags=["catalog"])
class EngineImageView(MeridianView):
    rights: ClassVar[Rights] = {"GET": "read", "DELETE": "admin"}
    tenancy = Tenancy.SHARED
    etagged = False

    @extend_schema(operation_id="engine_images_get", responses=EngineImageSerializer)
    def get(self, request: Request, image_id: str) -> Response:
        return Response(EngineImageSerializer(selectors.engine_image_get(image_id=image_id)).data)

    @extend_schema(operation_id="engine_images_delete", responses={204: empty("Deleted")})
    def delete(self, request: Request, image_id: str) -> Response:
        image = selectors.engine_image_get(image_id=image_id)
        services.engine_image_delete(actor=self.actor, image=image)
        return gone()


@extend_schema(tags=["catalog"])
class ProfilesView(MeridianView):
    rights: ClassVar[Rights] = {"GET": "read", "POST": "deploy"}
    tenancy = Tenancy.PROJECT
    filters = ProfileFilters
    paged = True

    @extend_schema(operation_id="performance_profiles_list", responses=page_of(ProfileSerializer))
    def get(self, request: Request) -> Response:
        return self.page(selectors.profiles(actor=self.actor, **self.filter_values), ProfileSerializer)

    @extend_schema(
        operation_id="performance_profiles_create",
        request=ProfileCreateSerializer,
        responses={201: ProfileSerializer},
    )
    def post(self, request: Request) -> Response:
        document = self.document(ProfileCreateSerializer)
        version = selectors.model_version_resolve(
            project_id=project_wanted(self.actor), reference=document.pop("model")
        )
        type_id = str(document.pop("instance_type"))
        try:
            instance_type = fact_get(instance_types(), "instance type", type_id)
        except Problem as problem:
            raise field_problem("/instance_type", "is not known", value=type_id) from problem
        made = services.profile_create(
            actor=self.actor, model_version=version, instance_type=instance_type, **document
        )
        location = f"{ROOT}/performance-profiles/{made.pk}"
        return created(ProfileSerializer(made).data, location=location)


@extend_schema(tags=["catalog"])
class SizingView(MeridianView):
    rights: ClassVar[Rights] = {"POST": "read"}
    tenancy = Tenancy.SHARED
    etagged = False

    @extend_schema(
        operation_id="performance_profiles_size", request=CurveSerializer, responses=SizingSerializer
    )
    def post(self, request: Request) -> Response:
        """Reads a size from a curve; writes nothing."""
        document = self.document(CurveSerializer)
        goals = Goals(**document.get("slo", {}))
        found = curve_sized(curve_of(document["curve"]), goals, document["input_tokens_mean"])
        return Response(SizingSerializer(found).data)


@extend_schema(tags=["catalog"])
class ProfileView(MeridianView):
    rights: ClassVar[Rights] = {"GET": "read", "DELETE": "deploy"}
    tenancy = Tenancy.PROJECT
    etagged = False

    @extend_schema(operation_id="performance_profiles_get", responses=ProfileSerializer)
    def get(self, request: Request, profile_id: str) -> Response:
        found = selectors.profile_get(actor=self.actor, profile_id=profile_id)
        return Response(ProfileSerializer(found).data)

    @extend_schema(operation_id="performance_profiles_delete", responses={204: empty("Deleted")})
    def delete(self, request: Request, profile_id: str) -> Response:
        found = selectors.profile_get(actor=self.actor, profile_id=profile_id)
        services.profile_delete(actor=self.actor, profile=found)
        return gone()
